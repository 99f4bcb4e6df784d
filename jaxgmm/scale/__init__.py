"""Past one computer's memory: rows streamed from where they are kept."""
