"""``jaxgmm report`` and ``jaxgmm card``: a model as a page and as a card."""

from __future__ import annotations

import os

from jaxgmm._files import replacing
from jaxgmm.cli import inputs, output
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.cli.pictures import rows_to_draw
from jaxgmm.report import card as card_of, html_page


def report(settings: Settings, console: Console) -> None:
    """One HTML file with all that is known of a model, and what given data say of it."""
    model = inputs.load_model(settings)
    x = labels = None
    if settings["data_path"]:
        table = inputs.rows_for(model, settings)
        x, labels = rows_to_draw(table.x), table.labels
    write_text(settings["output"], html_page(model, x, path=settings["model"], labels=labels))
    console.note(f"wrote {settings['output']}")
    console.emit({"command": "report", "model": settings["model"], "output": settings["output"]})


def card(settings: Settings, console: Console) -> None:
    """A model card in Markdown, to a file or on standard output."""
    text = card_of(inputs.load_model(settings), path=settings["model"])
    if settings["output"]:
        write_text(settings["output"], text)
        console.note(f"wrote {settings['output']}")
    elif not console.json:
        output.tell(text, end="")
    found = {"command": "card", "model": settings["model"], "output": settings["output"]}
    console.emit(found if settings["output"] else found | {"text": text})


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """A file of text, all or nothing."""
    with replacing(path) as handle:
        handle.write(text.encode())
