"""The shell: options and configuration files in, one command run, an exit code out.

``options`` says what may be given, ``parser`` and ``config`` read it, ``app`` runs one command. Nothing here
imports NumPy or JAX until a command really starts.
"""
