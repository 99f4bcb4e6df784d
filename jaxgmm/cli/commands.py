"""Every command of the shell, as data: the parser, the configuration and the help read this table."""

from __future__ import annotations

from collections.abc import Iterator

from jaxgmm.cli.kinds import Choice, Code, Column, Columns, Counts, Number, PathName, Range, Switch, Whole
from jaxgmm.cli.options import (
    CHECKPOINT,
    COMPARE,
    COVARIANCE_TYPES,
    CRITERIA,
    CRITERION,
    EM,
    FILM,
    FORCE,
    GENERATORS,
    HISTORY,
    LABELS,
    MODEL_IN,
    MODEL_OUT,
    PICTURE,
    PLOTS,
    PREPARE,
    PROCESSES,
    READ,
    SEED,
    SHAPE,
    SHAPES,
    STREAM,
    STRICT,
    TABLE_OUT,
    TALK,
)
from jaxgmm.cli.spec import Command, Option

FIT = Command(
    "fit",
    "fitting:fit",
    "fit a mixture of K Gaussians and write the model",
    (
        *READ,
        *STREAM,
        *PREPARE,
        Option("n_components", Whole(1, metavar="K"), "number of Gaussians", None, ("-n", "--n-clusters")),
        Option("covariance_type", SHAPES, "shape: " + ", ".join(COVARIANCE_TYPES), ["full"]),
        *EM,
        STRICT,
        Option("init_from", PathName(), "start from this model file"),
        Option("criterion", Choice(CRITERIA), "silhouette: print it too; the others are always printed", "bic"),
        COMPARE,
        HISTORY,
        *CHECKPOINT,
        *PROCESSES,
        MODEL_OUT,
        PICTURE,
        FILM,
        FORCE,
        *TALK,
    ),
    ("data_path",),
    "jaxgmm fit DATA -n K [options]",
    ("jaxgmm fit iris.csv -n 3 --label-column class", "jaxgmm --n_clusters 4 --data_path points.npy"),
)
SWEEP = Command(
    "sweep",
    "fitting:sweep",
    "fit several component counts and shapes, write the best model",
    (
        *READ,
        *STREAM,
        *PREPARE,
        Option("candidates", Counts(), "component counts to try (default 1-10; silhouette: 2-10)"),
        Option("find_num_clusters_range", Range(), "the same as --candidates A-B"),
        Option("covariance_type", SHAPES, "shapes to try: " + ", ".join(COVARIANCE_TYPES), ["full"]),
        CRITERION,
        COMPARE,
        *EM,
        STRICT,
        *CHECKPOINT,
        *PROCESSES,
        MODEL_OUT,
        PICTURE,
        FORCE,
        *TALK,
    ),
    ("data_path",),
    "jaxgmm sweep DATA [--candidates 1-10] [options]",
    (
        "jaxgmm sweep points.npy --candidates 1-10 --covariance-type full,diag",
        "jaxgmm --find_num_clusters_range 2 10 --data_path x.npy --criterion silhouette",
    ),
)
FIT_MANY = Command(
    "fit-many",
    "many:fit_many",
    "fit a mixture to each of many groups of rows, all at once",
    (
        *(option for option in READ if option.name != "label_column"),
        Option("group", Column(), "column that says which rows belong together, numbers or words", group="data"),
        *(option for option in PREPARE if option.name == "dtype"),
        Option("n_components", Counts(), "number of Gaussians, or several to choose from", None, ("-n",)),
        Option("covariance_type", SHAPES, "shape: " + ", ".join(COVARIANCE_TYPES), ["full"]),
        Option("criterion", Choice(CRITERIA[:3]), "what chooses for each group: bic, aic or icl", "bic"),
        *(option for option in EM if option.name not in ("keep_restarts", "kernel")),
        STRICT,
        Option("output", PathName(), "the .csv or .tsv file to write (default: printed)", None, ("-o",), "output"),
        Option("parameters_to", PathName(), "write the parameters of all components to this file", group="output"),
        FORCE,
        *TALK,
    ),
    ("data_path",),
    "jaxgmm fit-many DATA --group COLUMN -n K [options]",
    ("jaxgmm fit-many cells.csv --group cell -n 2 -o fits.csv", "jaxgmm fit-many x.csv --group id -n 1-4 --json"),
)
PREDICT = Command(
    "predict",
    "using:predict",
    "the component of every row, by a fitted model",
    (
        MODEL_IN,
        *READ,
        *STREAM,
        Option("proba", Switch(), "the probability of every component (responsibilities) as well", False),
        Option("uncertainty", Switch(), "1 minus the largest probability as well", False),
        TABLE_OUT,
        FORCE,
        *TALK,
    ),
    ("model", "data_path"),
    "jaxgmm predict MODEL DATA [options]",
    ("jaxgmm predict model.npz points.npy -o labels.csv", "jaxgmm predict model.npz iris.csv --proba"),
)
SCORE = Command(
    "score",
    "using:score",
    "the log-likelihood of data under a fitted model",
    (
        MODEL_IN,
        *READ,
        *STREAM,
        Option("per_row", PathName(), "write the log-likelihood of every row to this file", group="output"),
        FORCE,
        *TALK,
    ),
    ("model", "data_path"),
    "jaxgmm score MODEL DATA [options]",
    ("jaxgmm score model.npz points.npy --per-row log_prob.npy",),
)
SAMPLE = Command(
    "sample",
    "using:sample",
    "draw new rows from a fitted model",
    (
        MODEL_IN,
        Option("n_samples", Whole(1), "rows to draw", None, ("-n",)),
        SEED,
        *LABELS,
        TABLE_OUT,
        FORCE,
        *TALK,
    ),
    ("model",),
    "jaxgmm sample MODEL -n N [options]",
    ("jaxgmm sample model.npz -n 1000 --seed 0 -o rows.csv",),
)
SUMMARY = Command(
    "summary",
    "using:summary",
    "print the summary of a fitted model again",
    (MODEL_IN, *TALK),
    ("model",),
    "jaxgmm summary MODEL [--json]",
    ("jaxgmm summary model.npz",),
)
GENERATE = Command(
    "generate",
    "making:generate",
    "write a sample from a mixture with known parameters",
    (
        Option("name", Choice(tuple(GENERATORS)), "which: " + ", ".join(GENERATORS)),
        *SHAPE,
        SEED,
        *LABELS,
        TABLE_OUT,
        FORCE,
        *TALK,
    ),
    ("name",),
    "jaxgmm generate NAME [options]",
    ("jaxgmm generate cube --seed 0 -o cube.npy", "jaxgmm generate blobs -n 500 --with-labels -o blobs.csv"),
)
CONVERT = Command(
    "convert",
    "converting:convert",
    "write a table, or many, as one .npy file, piece by piece",
    (
        *(option for option in READ if option.name not in ("weight_column", "label_column")),
        *(option for option in PREPARE if option.name == "dtype"),
        Option("output", PathName(), "the .npy, .csv, .tsv or .parquet file to write", None, ("-o",), group="output"),
        FORCE,
        *TALK,
    ),
    ("data_path", "output"),
    "jaxgmm convert DATA OUTPUT [options]",
    ("jaxgmm convert 'part-*.parquet' all.npy --dtype float32",),
)
PLOT = Command(
    "plot",
    "pictures:plot",
    "a picture of a model and data, or the film of its fit",
    (
        MODEL_IN,
        *READ,
        Option("kind", Choice(PLOTS), "what is shown: " + ", ".join(PLOTS), "overview"),
        Option("features", Columns(), "the columns to show, by name or number from 0: a,b or 0-1"),
        Option("n_std", Number(), "size of ellipses, in standard deviations", 2.0),
        Option(
            "output",
            PathName(),
            "the .png, .svg or .pdf file to write, .gif for an animation (default: named after the kind)",
            None,
            ("-o",),
            group="output",
        ),
        FORCE,
        *TALK,
    ),
    ("model", "data_path"),
    "jaxgmm plot MODEL [DATA] [--kind KIND] [options]",
    ("jaxgmm plot model.npz points.npy --kind ellipses", "jaxgmm plot model.npz x.csv --kind animation -o em.gif"),
)
REPORT = Command(
    "report",
    "pages:report",
    "all that is known of a model as one HTML file",
    (
        MODEL_IN,
        *READ,
        Option("output", PathName(), "the .html file to write", "report.html", ("-o",), group="output"),
        FORCE,
        *TALK,
    ),
    ("model", "data_path"),
    "jaxgmm report MODEL [DATA] [options]",
    ("jaxgmm report model.npz points.npy -o report.html",),
)
CARD = Command(
    "card",
    "pages:card",
    "a model card in Markdown",
    (
        MODEL_IN,
        Option("output", PathName(), "the .md file to write (default: printed)", None, ("-o",), group="output"),
        FORCE,
        *TALK,
    ),
    ("model",),
    "jaxgmm card MODEL [-o FILE]",
    ("jaxgmm card model.npz -o CARD.md",),
)
RUN = Command(
    "run",
    "",
    "run a job described in a TOML file; flags given behind it win",
    (),
    ("config",),
    "jaxgmm run CONFIG.toml [options of its command]",
    ("jaxgmm run configs/fit_iris.toml -o iris.npz",),
)
DEMO = Command(
    "demo",
    "demo:demo",
    "generated and real data fitted: pictures, a film, reports",
    (
        Option("folder", PathName(), "where models, pictures and reports go", "demo", group="output"),
        FORCE,
        *TALK,
    ),
    (),
    "jaxgmm demo [--folder DIR] [--json]",
    ("jaxgmm demo",),
)
ERRORS = Command(
    "errors",
    "errors:errors",
    "explain the code of an error or a warning, or list them all",
    (
        Option("code", Code(), "such as E203"),
        Option("long", Switch(), "every code with its explanation", False),
        *TALK,
    ),
    ("code",),
    "jaxgmm errors [CODE]",
    ("jaxgmm errors E203",),
)
LAUNCH = Command(
    "launch",
    "",
    "run a command as several processes, which share the rows",
    (Option("n_processes", Whole(1, metavar="N"), "how many processes", None, ("-n",)),),
    (),
    "jaxgmm launch -n N -- COMMAND ...",
    ("jaxgmm launch -n 2 -- fit big.npy -n 64 --checkpoint kept -o big.npz",),
)
DOCTOR = Command(
    "doctor",
    "info:doctor",
    "versions, devices and optional packages, and a small self-check",
    TALK,
    (),
    "jaxgmm doctor [--json]",
    ("jaxgmm doctor",),
)

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        DEMO,
        FIT,
        SWEEP,
        FIT_MANY,
        PREDICT,
        SCORE,
        SAMPLE,
        SUMMARY,
        PLOT,
        REPORT,
        CARD,
        GENERATE,
        CONVERT,
        RUN,
        LAUNCH,
        DOCTOR,
        ERRORS,
    )
}


def _both() -> Iterator[Option]:
    yield from FIT.options
    yield from (o for o in SWEEP.options if FIT.option(o.name) is None)


# What may be given without a subcommand: a fit or a sweep, whichever the options ask for.
BARE = Command(
    "",
    "",
    "fit, or sweep when a range of component counts is given",
    tuple(_both()),
    ("data_path",),
    "jaxgmm DATA (-n K | --candidates 1-10) [options]",
)
