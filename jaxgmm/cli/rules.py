"""What options must hold together, checked before anything heavy is imported and before any work is done."""

from __future__ import annotations

import os

from jaxgmm._status import UsageError
from jaxgmm.cli.config import generator_options
from jaxgmm.cli.options import SHAPE
from jaxgmm.cli.parser import Settings
from jaxgmm.cli.spec import Command

# What is missing, and what to do about it.
_MISSING = {
    "data_path": ("no data", "name a file, or - for standard input"),
    "model": ("no model", "name a model file written by jaxgmm fit or jaxgmm sweep"),
    "n_samples": ("how many rows?", "give -n N (or --n-samples N)"),
    "name": ("no generator named", "name one"),
    "output": ("no file to write", "name one that ends in .npy"),
    "group": ("which rows belong together?", "name their column with --group COLUMN"),
    "n_components": ("how many components?", "give -n K (or --n-components K), or choose with jaxgmm sweep"),
}
# Options that name a file to write.
OUTPUTS = ("output", "labels_to", "per_row", "parameters_to", "plot", "animate")
_TABLE_ENDINGS = (".npy", ".csv", ".tsv", ".parquet")
_PICTURE_ENDINGS = (".png", ".svg", ".pdf")
# (command, option) or option -> the endings of the files that it names, where they are no tables.
_ENDINGS: dict[tuple[str, str] | str, tuple[str, ...]] = {
    ("fit", "output"): (".npz",),
    ("sweep", "output"): (".npz",),
    ("fit-many", "output"): (".csv", ".tsv"),
    ("fit-many", "parameters_to"): (".csv", ".tsv"),
    ("report", "output"): (".html",),
    ("card", "output"): (".md",),
    ("plot", "output"): _PICTURE_ENDINGS,
    "plot": _PICTURE_ENDINGS,
    "animate": (".gif",),
}


def settle(command: Command, given: Settings) -> Settings:
    """Everything the command needs: what was given, defaults, and what follows from them; or a `UsageError`."""
    settings = {option.name: option.default for option in command.options} | given
    words = [name for name in command.words if name in _MISSING]
    without_data = settings.get("generate") or command.name in ("plot", "report")
    needed = [name for name in words if name != "data_path" or not without_data]
    needed += [name for name in ("n_samples",) if command.option(name) and command.name == "sample"]
    if command.name == "fit" and settings["init_from"] is None:
        needed.append("n_components")
    if command.name == "fit-many":
        needed += ["group", "n_components"]
    for name in needed:
        if settings[name] is None:
            found, cure = _MISSING[name]
            raise UsageError("E106", found, f"{cure}; for example: {command.examples[0]}")
    if command.name in ("fit", "fit-many"):
        _check_one_type(settings)
    if command.name == "fit":
        _check_fit(settings, given)
    if command.name == "sweep":
        _check_sweep(settings)
    if command.name == "plot" and settings["output"] is None:
        kind = settings["kind"]
        settings["output"] = f"{kind}.{'gif' if kind == 'animation' else 'png'}"
    if command.name == "generate":
        shape = {option.name: settings.pop(option.name) for option in SHAPE}
        settings["generator_options"] = generator_options(settings["name"], shape)
    if settings.get("proba") and settings.get("uncertainty") and _ending(settings["output"]) == ".npy":
        raise UsageError(
            "E120", "--proba and --uncertainty make a table", "write it to a .csv file, or ask for one of them"
        )
    if settings.get("with_labels") and _ending(settings["output"]) == ".npy":
        raise UsageError(
            "E120", "--with-labels adds a column to text output", "for .npy write them apart with --labels-to FILE"
        )
    if settings.get("generate"):
        for name in ("columns", "drop", "weight_column", "label_column", "header"):
            if settings[name] is not None:
                raise UsageError(
                    "E107", f"--{name.replace('_', '-')} needs a data file, but the data are generated", "remove it"
                )
    _check_outputs(command, settings)
    return settings


def _check_one_type(settings: Settings) -> None:
    types = settings["covariance_type"]
    if len(types) > 1:
        raise UsageError(
            "E110", f"a fit has one covariance type, got {','.join(types)}", "use sweep to choose among several"
        )
    settings["covariance_type"] = types[0]


def _check_fit(settings: Settings, given: Settings) -> None:
    if settings["animate"]:
        settings["history"] = "params"
    if settings["criterion"] == "silhouette" and settings["n_components"] == 1:
        raise UsageError("E111", "the silhouette compares clusters and 1 component has none", "use --criterion bic")
    if settings["init_from"] is not None:
        for name in ("init", "standardize", "n_restarts"):
            if given.get(name):
                flag = "--" + name.replace("_", "-")
                raise UsageError("E107", "--init-from says where to start and in which units", f"leave out {flag}")
        if "covariance_type" not in given:
            settings["covariance_type"] = None


def _check_sweep(settings: Settings) -> None:
    counts, pair = settings["candidates"], settings["find_num_clusters_range"]
    if counts is not None and pair is not None:
        raise UsageError("E107", "--candidates and --find-num-clusters-range say the same", "give one of them")
    silhouette = settings["criterion"] == "silhouette"
    counts = counts or pair or list(range(2 if silhouette else 1, 11))
    if silhouette and counts[0] < 2:
        raise UsageError(
            "E111",
            f"the silhouette compares clusters, so it needs counts of at least 2, got {counts[0]}",
            "begin at 2 or use --criterion bic",
        )
    settings["candidates"] = counts


def _check_outputs(command: Command, settings: Settings) -> None:
    named = [settings.get(name) for name in ("data_path", "model", "init_from")]
    inputs = [_file_of(path) for path in named if path is not None and path != "-"]
    # A missing input is the first thing to say; reading it fails before anything is written.
    readable = all(os.path.exists(path) or os.path.exists(f"{path}.npz") for path in inputs)
    outputs: dict[str, str] = {}
    for name in OUTPUTS:
        path = settings.get(name)
        if path is None:
            continue
        flag = "--" + name.replace("_", "-")
        endings = _ENDINGS.get((command.name, name)) or _ENDINGS.get(name, _TABLE_ENDINGS)
        if settings.get("kind") == "animation":
            endings = (".gif",)
        if _ending(path) not in endings:
            raise UsageError(
                "E120",
                f"{flag} {path} must end in {' or '.join(endings)}, which says what to write",
                f"for example {os.path.splitext(path)[0]}{endings[0]}",
            )
        if any(_same_file(path, source) for source in inputs):
            raise UsageError("E121", f"{flag} {path} is also the input and would destroy it", "name another file")
        if any(_same_file(path, other) for other in outputs.values()):
            raise UsageError("E122", f"{flag} {path} is named for two outputs", "name two files")
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            raise UsageError("E123", f"{flag} {path}: there is no directory {folder}", "create it first")
        if os.path.isdir(path):
            raise UsageError("E124", f"{flag} {path} is a directory", "name a file in it")
        if os.path.exists(path) and not settings["force"] and readable:
            raise UsageError(
                "E125", f"{path} exists already", f"name another file with {flag}, or replace it with --force"
            )
        outputs[name] = path


def _ending(path: str | None) -> str:
    return os.path.splitext(path or "")[1].lower()


def _file_of(path: str) -> str:
    """``archive.npz:name`` is read from the file archive.npz."""
    head, colon, _ = path.rpartition(":")
    return head if colon and not os.path.exists(path) and os.path.exists(head) else path


def _same_file(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)
