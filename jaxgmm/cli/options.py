"""The options of the shell, as data, in the groups in which commands take them."""

from __future__ import annotations

from jaxgmm.cli.kinds import (
    Choice,
    Choices,
    Column,
    Columns,
    Number,
    Numbers,
    PathName,
    Switch,
    Whole,
    Wholes,
)
from jaxgmm.cli.spec import Option

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
PLOTS = (
    *("overview", "scatter", "ellipses", "density", "contours", "pairs", "history", "criteria", "uncertainty"),
    *("qq", "cdf", "animation"),
)

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
    "digits": ("digits",),
}

DEFAULT_MODEL = "model.npz"
DEFAULT_RESTARTS = 8
MAX_SEED = 2**32 - 1


READ = (
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
STREAM = (
    Option(
        "batch_size",
        Whole(1),
        "stream the rows, so many at a time, instead of loading them (default: if memory asks for it)",
        group="data",
    ),
    Option("cache", Switch(), "keep what text and Parquet files of a stream hold as .npy (default: yes)", group="data"),
)
CHECKPOINT = (
    Option("checkpoint", PathName(), "a directory to keep the state of a streamed fit in", group="output"),
    Option("checkpoint_every", Number(), "seconds between two checkpoints", 300.0, group="output"),
    Option("resume", Choice(RESUME), "auto: go on from the checkpoint, if there is one", "never", group="output"),
)
PROCESSES = (
    Option("distributed", Choice(("auto",)), "be one of several processes, as SLURM, MPI or jaxgmm launch says"),
    Option("coordinator", PathName(), "be one of several processes: HOST:PORT of process 0"),
    Option("lane_devices", Whole(1), "of several devices, so many share the restarts, the rest the rows", 1),
    Option("num_processes", Whole(1), "how many processes there are"),
    Option("process_id", Whole(0), "which of them this is, from 0"),
)
PREPARE = (
    Option("standardize", Switch(), "fit on columns of mean 0 and standard deviation 1", False, group="data"),
    Option(
        "dtype",
        Choice(("float32", "float64", "data")),
        "precision; data is that of the file (default: data, on a GPU float32)",
        group="data",
    ),
)
SEED = Option("seed", Whole(0, MAX_SEED), "of the random numbers (default: drawn and printed)")
SHAPES = Choices(COVARIANCE_TYPES, silent=MCLUST_CODES)
EM = (
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
    SEED,
)
CRITERION = Option("criterion", Choice(CRITERIA), "what chooses: bic, aic, icl or silhouette", "bic")
COMPARE = Option("compare_with", Choice(("dbscan", "scikit-learn")), "another method on the same rows, for comparison")
FORCE = Option("force", Switch(), "replace an output file that exists", False, group="output")
STRICT = Option(
    "strict", Switch(), "exit with 4 if a fit did not converge or is degenerate; all is still written", False
)
TALK = (
    Option("json", Switch(), "one JSON object on standard output, all else on standard error", False, group="output"),
    Option("quiet", Switch(), "no summary and no progress", False, ("-q",), group="output"),
)
MODEL_OUT = Option("output", PathName(), "the model file to write", DEFAULT_MODEL, ("-o",), group="output")
TABLE_OUT = Option(
    "output", PathName(), "the .npy, .csv or .tsv file to write (default: CSV, printed)", None, ("-o",), group="output"
)
MODEL_IN = Option("model", PathName(), "a model file written by fit or sweep")
LABELS = (
    Option("with_labels", Switch(), "text output: add the component of each row as a last column", False),
    Option("labels_to", PathName(), "write the component of each row to this file", group="output"),
)
HISTORY = Option(
    "history",
    Choice(("log_likelihood", "params")),
    "what the model keeps of every iteration; params: enough for a film",
    "log_likelihood",
)
PICTURE = Option("plot", PathName(), "write a picture of the fit to this .png, .svg or .pdf file", group="output")
FILM = Option("animate", PathName(), "write a film of the fit to this .gif file", group="output")
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
    Option("digits", Choices(tuple("0123456789")), "which digits (digits)", group="generator"),
)
