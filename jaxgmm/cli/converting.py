"""``jaxgmm convert``: tables of any kind as one file that is read fast."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxgmm._ahead import ahead
from jaxgmm._status import UsageError
from jaxgmm.cli import inputs
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.cli.writing import Piece, write_table
from jaxgmm.data.batches import Rescaled, Source, batches
from jaxgmm.data.scan import refuse_own_output, scan_table
from jaxgmm.data.survey import check_finite

_ROWS = 1 << 16


def convert(settings: Settings, console: Console) -> None:
    """The rows of files as one file, of which no more than a piece is in memory."""
    if settings["data_path"] == "-":
        raise UsageError("E107", "standard input is not converted", "save it to a file first")
    refuse_own_output(settings["data_path"], settings["output"])
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
