"""``jaxgmm convert``: tables of any kind as one file that is read fast."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxgmm.cli import inputs
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.cli.writing import Piece, write_table
from jaxgmm.data.batches import Rescaled, Source, ahead, batches
from jaxgmm.data.scan import scan_table
from jaxgmm.data.survey import check_finite

_ROWS = 1 << 16


def convert(settings: Settings, console: Console) -> None:
    """The rows of files as one file, of which no more than a piece is in memory."""
    source: Source = scan_table(
        settings["data_path"],
        columns=settings["columns"],
        drop=settings["drop"],
        header=settings["header"],
        cache=False,
    )
    names = inputs.column_names(source.columns, source.n_features)
    if settings["dtype"] not in (None, "data"):
        source = Rescaled(source, np.dtype(settings["dtype"]))

    def pieces() -> Iterator[Piece]:
        done = 0
        for batch in ahead(lambda: batches(source, _ROWS)):
            check_finite(batch, source, done)
            done += len(batch.x)
            yield Piece(list(batch.x.T), batch.x)

    n_rows = write_table(settings["output"], names, pieces())
    console.note(f"wrote {settings['output']}: {n_rows} rows x {len(names)} columns, {source.dtype}")
    console.emit(
        {
            "command": "convert",
            "source": source.name,
            "n_samples": n_rows,
            "columns": names,
            "output": settings["output"],
        }
    )
