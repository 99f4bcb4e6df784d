"""Every command and every option of the shell, as data: the parser, the configuration and the help read this table."""

from __future__ import annotations

from collections.abc import Iterator

from jaxgmm.cli.kinds import (
    Choice,
    Choices,
    Code,
    Column,
    Columns,
    Counts,
    Number,
    Numbers,
    PathName,
    Range,
    Switch,
    Whole,
    Wholes,
)
from jaxgmm.cli.spec import Command, Option

# Copies of the registries' names: reading the registries would import JAX before a misspelt name is refused.
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical", "tied_diag", "tied_spherical")
MCLUST_CODES = ("VVV", "EEE", "VVI", "VII", "EEI", "EII")
INIT_METHODS = ("kmeans", "k-means++", "random", "random_from_data", "orthant")
CRITERIA = ("bic", "aic", "icl", "silhouette")
TOL_KINDS = ("change", "aitken")
REG_KINDS = ("relative", "absolute")
ACCELERATIONS = ("squarem", "anderson", "lbfgs")
PRIORS = ("default",)
DEGENERATE = ("keep", "drop", "revive", "raise")
RESUME = ("never", "auto")
KERNELS = ("auto", "features", "whitening")

# Generator -> the options it takes, beside `seed`.
GENERATORS: dict[str, tuple[str, ...]] = {
    "cube": ("n_per_corner", "half_side", "missing", "std"),
    "random": ("n_components", "n_features", "n_per_component", "lim"),
    "blobs": ("n_samples", "n_components", "n_features", "std", "box"),
    "1d-blobs": ("sizes", "means", "stds"),
    "ellipsoids": ("sizes", "n_features"),
    "bimodal": (),
    "two-gaussians": (),
    "three-1d": (),
}

DEFAULT_MODEL = "model.npz"
DEFAULT_RESTARTS = 8
MAX_SEED = 2**32 - 1


_READ = (
    Option(
        "data_path",
        PathName(),
        "rows: .npy, .npz, .csv, .tsv, text, .mat, .parquet, .feather, a folder or pattern of them, or -",
        group="data",
    ),
    Option("columns", Columns(), "the columns to use, by name or number from 0: a,b or 0-3", group="data"),
    Option("drop", Columns(), "columns to leave out", group="data"),
    Option("weight_column", Column(), "column that holds the weight of each row", group="data"),
    Option("label_column", Column(), "column that holds the known class of each row, to compare with", group="data"),
    Option("header", Switch(), "the first line of a text file names the columns (default: find out)", group="data"),
)
_STREAM = (
    Option(
        "batch_size",
        Whole(1),
        "stream the rows, so many at a time, instead of loading them (default: if memory asks for it)",
        group="data",
    ),
    Option("cache", Switch(), "keep what text and Parquet files of a stream hold as .npy (default: yes)", group="data"),
)
_CHECKPOINT = (
    Option("checkpoint", PathName(), "a directory to keep the state of a streamed fit in", group="output"),
    Option("checkpoint_every", Number(), "seconds between two checkpoints", 300.0, group="output"),
    Option("resume", Choice(RESUME), "auto: go on from the checkpoint, if there is one", "never", group="output"),
)
_PROCESSES = (
    Option("distributed", Choice(("auto",)), "be one of several processes, as SLURM, MPI or jaxgmm launch says"),
    Option("coordinator", PathName(), "be one of several processes: HOST:PORT of process 0"),
    Option("lane_devices", Whole(1), "of several devices, so many share the restarts, the rest the rows", 1),
    Option("num_processes", Whole(1), "how many processes there are"),
    Option("process_id", Whole(0), "which of them this is, from 0"),
)
_PREPARE = (
    Option("standardize", Switch(), "fit on columns of mean 0 and standard deviation 1", False, group="data"),
    Option(
        "dtype",
        Choice(("float32", "float64", "data")),
        "precision; data is that of the file (default: data, on a GPU float32)",
        group="data",
    ),
)
_SEED = Option("seed", Whole(0, MAX_SEED), "of the random numbers (default: drawn and printed)")
_SHAPES = Choices(COVARIANCE_TYPES, silent=MCLUST_CODES)
_EM = (
    Option("n_restarts", Whole(1), "independent starts, of which the best is kept", DEFAULT_RESTARTS),
    Option("init", Choice(INIT_METHODS), "how EM starts: " + ", ".join(INIT_METHODS), "kmeans"),
    Option("tol", Number(), "stop when the log-likelihood changes by less than this, relatively", 1e-8),
    Option("tol_kind", Choice(TOL_KINDS), "what tol bounds: the last change, or all still to gain (aitken)", "change"),
    Option("reg_covar", Number(), "added to the diagonal of every covariance (default 1e-6; 0 with a prior)"),
    Option("reg_kind", Choice(REG_KINDS), "its unit: the variance of each column, or data units squared", "relative"),
    Option("max_iter", Whole(0), "the largest number of iterations", 1000),
    Option("prior", Choice(PRIORS), "default is that of mclust: covariances cannot collapse (default: none)"),
    Option("degenerate", Choice(DEGENERATE), "components on hardly any rows: keep, drop, revive, raise", "keep"),
    Option("accelerate", Choice(ACCELERATIONS), "extrapolate where EM creeps: squarem, anderson or lbfgs"),
    Option("keep_restarts", Whole(1), "after a short run only so many restarts go on (default: all)"),
    Option("kernel", Choice(KERNELS), "how densities are computed: auto, features (fast) or whitening", "auto"),
    _SEED,
)
_CRITERION = Option("criterion", Choice(CRITERIA), "what chooses: bic, aic, icl or silhouette", "bic")
_FORCE = Option("force", Switch(), "replace an output file that exists", False, group="output")
_STRICT = Option(
    "strict", Switch(), "exit with 4 if a fit did not converge or is degenerate; all is still written", False
)
_TALK = (
    Option("json", Switch(), "one JSON object on standard output, all else on standard error", False, group="output"),
    Option("quiet", Switch(), "no summary and no progress", False, ("-q",), group="output"),
)
_MODEL_OUT = Option("output", PathName(), "the model file to write", DEFAULT_MODEL, ("-o",), group="output")
_TABLE_OUT = Option(
    "output", PathName(), "the .npy, .csv or .tsv file to write (default: CSV, printed)", None, ("-o",), group="output"
)
_MODEL_IN = Option("model", PathName(), "a model file written by fit or sweep")
_LABELS = (
    Option("with_labels", Switch(), "text output: add the component of each row as a last column", False),
    Option("labels_to", PathName(), "write the component of each row to this file", group="output"),
)

FIT = Command(
    "fit",
    "fitting:fit",
    "fit a mixture of K Gaussians and write the model",
    (
        *_READ,
        *_STREAM,
        *_PREPARE,
        Option("n_components", Whole(1, metavar="K"), "number of Gaussians", None, ("-n", "--n-clusters")),
        Option("covariance_type", _SHAPES, "shape: " + ", ".join(COVARIANCE_TYPES), ["full"]),
        *_EM,
        _STRICT,
        Option("init_from", PathName(), "start from this model file"),
        Option("criterion", Choice(CRITERIA), "silhouette: print it too; the others are always printed", "bic"),
        *_CHECKPOINT,
        *_PROCESSES,
        _MODEL_OUT,
        _FORCE,
        *_TALK,
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
        *_READ,
        *_STREAM,
        *_PREPARE,
        Option("candidates", Counts(), "component counts to try (default 1-10; silhouette: 2-10)"),
        Option("find_num_clusters_range", Range(), "the same as --candidates A-B"),
        Option("covariance_type", _SHAPES, "shapes to try: " + ", ".join(COVARIANCE_TYPES), ["full"]),
        _CRITERION,
        *_EM,
        _STRICT,
        *_CHECKPOINT,
        *_PROCESSES,
        _MODEL_OUT,
        _FORCE,
        *_TALK,
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
        *(option for option in _READ if option.name != "label_column"),
        Option("group", Column(), "column that says which rows belong together, numbers or words", group="data"),
        *(option for option in _PREPARE if option.name == "dtype"),
        Option("n_components", Counts(), "number of Gaussians, or several to choose from", None, ("-n",)),
        Option("covariance_type", _SHAPES, "shape: " + ", ".join(COVARIANCE_TYPES), ["full"]),
        Option("criterion", Choice(CRITERIA[:3]), "what chooses for each group: bic, aic or icl", "bic"),
        *(option for option in _EM if option.name not in ("keep_restarts", "kernel")),
        _STRICT,
        Option("output", PathName(), "the .csv or .tsv file to write (default: printed)", None, ("-o",), "output"),
        Option("parameters_to", PathName(), "write the parameters of all components to this file", group="output"),
        _FORCE,
        *_TALK,
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
        _MODEL_IN,
        *_READ,
        *_STREAM,
        Option("proba", Switch(), "the probability of every component (responsibilities) as well", False),
        Option("uncertainty", Switch(), "1 minus the largest probability as well", False),
        _TABLE_OUT,
        _FORCE,
        *_TALK,
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
        _MODEL_IN,
        *_READ,
        *_STREAM,
        Option("per_row", PathName(), "write the log-likelihood of every row to this file", group="output"),
        _FORCE,
        *_TALK,
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
        _MODEL_IN,
        Option("n_samples", Whole(1), "rows to draw", None, ("-n",)),
        _SEED,
        *_LABELS,
        _TABLE_OUT,
        _FORCE,
        *_TALK,
    ),
    ("model",),
    "jaxgmm sample MODEL -n N [options]",
    ("jaxgmm sample model.npz -n 1000 --seed 0 -o rows.csv",),
)
SUMMARY = Command(
    "summary",
    "using:summary",
    "print the summary of a fitted model again",
    (_MODEL_IN, *_TALK),
    ("model",),
    "jaxgmm summary MODEL [--json]",
    ("jaxgmm summary model.npz",),
)
# The options of the generators; None leaves a generator's own default.
SHAPE = (
    Option("n_samples", Whole(1), "rows (blobs)", None, ("-n",), group="generator"),
    Option("n_components", Whole(1), "clusters (random, blobs)", group="generator"),
    Option("n_features", Whole(1), "columns (random, blobs, ellipsoids)", group="generator"),
    Option("n_per_component", Whole(1), "rows of each cluster (random)", group="generator"),
    Option("n_per_corner", Whole(1), "rows of each corner (cube)", group="generator"),
    Option("half_side", Number(), "half the edge of the cube (cube)", group="generator"),
    Option("missing", Whole(0, 7), "corners left empty (cube)", group="generator"),
    Option("std", Number(), "standard deviation of a cluster (cube, blobs)", group="generator"),
    Option("lim", Number(), "half the edge of the box of means (random)", group="generator"),
    Option("box", Number(), "half the edge of the box of means (blobs)", group="generator"),
    Option("sizes", Wholes(), "rows of each cluster (1d-blobs, ellipsoids)", group="generator"),
    Option("means", Numbers(), "place of each cluster (1d-blobs)", group="generator"),
    Option("stds", Numbers(), "standard deviation of each cluster (1d-blobs)", group="generator"),
)
GENERATE = Command(
    "generate",
    "making:generate",
    "write a sample from a mixture with known parameters",
    (
        Option("name", Choice(tuple(GENERATORS)), "which: " + ", ".join(GENERATORS)),
        *SHAPE,
        _SEED,
        *_LABELS,
        _TABLE_OUT,
        _FORCE,
        *_TALK,
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
        *(option for option in _READ if option.name not in ("weight_column", "label_column")),
        *(option for option in _PREPARE if option.name == "dtype"),
        Option("output", PathName(), "the .npy, .csv, .tsv or .parquet file to write", None, ("-o",), group="output"),
        _FORCE,
        *_TALK,
    ),
    ("data_path", "output"),
    "jaxgmm convert DATA OUTPUT [options]",
    ("jaxgmm convert 'part-*.parquet' all.npy --dtype float32",),
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
    "the main job on generated and on real data; writes nothing",
    _TALK,
    (),
    "jaxgmm demo [--json]",
    ("jaxgmm demo",),
)
ERRORS = Command(
    "errors",
    "errors:errors",
    "explain the code of an error or a warning, or list them all",
    (
        Option("code", Code(), "such as E203"),
        Option("long", Switch(), "every code with its explanation", False),
        *_TALK,
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
    _TALK,
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
