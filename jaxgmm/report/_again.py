"""How to fit a model again, and how to use it: commands of the shell and lines of Python."""

from __future__ import annotations

import os.path
import shlex
from dataclasses import dataclass
from typing import Any

from jaxgmm.init import INIT_METHODS
from jaxgmm.model import Model
from jaxgmm.report._facts import is_scaled, known, options_of

# Of `EMOptions.as_dict`: what `jaxgmm.fit` takes under the same name.
_OPTIONS = ("tol", "tol_kind", "reg_covar", "reg_kind", "max_iter")


@dataclass(frozen=True, kw_only=True)
class Again:
    """How to fit the model again: a shell command and lines of Python, empty where it is not known; and remarks."""

    shell: str
    python: str
    remarks: list[str]


def again(model: Model) -> Again:
    """The command that is on record, or one made of the recorded options; `DATA` stands for the data file."""
    meta = known(model)
    shell = _recorded(meta)
    options = options_of(model)
    # A tolerance of the mean is that of the estimator, which `jaxgmm.fit` does not take.
    by_fit = all(name in options for name in _OPTIONS) and not options.get("tol_mean")
    if str(meta.get("init")) not in INIT_METHODS or not by_fit:
        remark = (
            "The file does not say enough to fit the model again."
            if "init" not in meta
            else "The fit began at given parameters, which the file does not hold, or was not one by jaxgmm.fit."
        )
        return Again(shell=shell, python="", remarks=[] if shell else [remark])
    n_restarts = max(1, len(meta.get("restart_log_likelihoods") or []))
    arguments = {"init": meta["init"], "n_restarts": n_restarts} | {name: options[name] for name in _OPTIONS}
    remarks = [
        "The same data, options, seed, versions and device give the same digest.",
        f"The {'Python lines are' if shell else 'lines are'} made of the options on record. Row weights, a prior, "
        "acceleration and a short run of the starts are not on record: add them where they were used.",
    ]
    return Again(shell=shell or _shell(meta, model, arguments), python=_python(meta, model, arguments), remarks=remarks)


def _recorded(meta: dict[str, Any]) -> str:
    """The command on record, with the seed that was drawn where none was given."""
    words = list(meta.get("command") or [])
    if not words:
        return ""
    if os.path.basename(words[0]) in ("jaxgmm", "__main__.py"):
        words = words[1:]
    if meta.get("seed") is not None and not any(w.split("=")[0] == "--seed" for w in words):
        words += ["--seed", str(meta["seed"])]
    return shlex.join(["jaxgmm", *words])


def _sweep_of(meta: dict[str, Any]) -> tuple[list[int], list[str], str] | None:
    if "sweep" not in meta:
        return None
    table = meta["sweep"]["table"]
    counts = sorted({row["n_components"] for row in table})
    return counts, list(dict.fromkeys(row["covariance_type"] for row in table)), meta["sweep"]["criterion"]


def _shell(meta: dict[str, Any], model: Model, arguments: dict[str, Any]) -> str:
    sweep = _sweep_of(meta)
    if sweep is None:
        words = ["fit", "DATA", "-n", model.n_components, "--covariance-type", model.covariance_type]
    else:
        words = ["sweep", "DATA", "--candidates", ",".join(map(str, sweep[0]))]
        words += ["--covariance-type", ",".join(sweep[1]), "--criterion", sweep[2]]
    words += [word for name, value in arguments.items() for word in (f"--{name.replace('_', '-')}", value)]
    words += ["--seed", meta["seed"]] if meta.get("seed") is not None else []
    words += ["--standardize"] if is_scaled(model) else []
    words += ["--dtype", model.params.means.dtype.name, "-o", "again.npz"]
    return shlex.join(["jaxgmm", *map(str, words)])


def _python(meta: dict[str, Any], model: Model, arguments: dict[str, Any]) -> str:
    sweep, dtype = _sweep_of(meta), model.params.means.dtype.name
    named = {"key": meta["seed"]} if meta.get("seed") is not None else {}
    if sweep is None:
        call, end = f"jaxgmm.fit(z, {model.n_components}", ""
        named |= {"covariance_type": model.covariance_type}
    else:
        call, end = f"jaxgmm.sweep(z, {sweep[0]}", ".best"
        named |= {"covariance_types": sweep[1], "criterion": sweep[2]}
    rest = "".join(f",\n    {name}={value!r}" for name, value in (named | arguments).items())
    scaling = "jaxgmm.data.standardize(x)" if is_scaled(model) else "x, None, None"
    return "\n".join(
        [
            "import numpy as np",
            "",
            "import jaxgmm",
            "",
            'x = np.load("data.npy")  # the rows, in the order of the columns above',
            f"z, shift, scale = {scaling}",
            f"z = z.astype({dtype!r})",
            f"result = {call}{rest},\n){end}",
            "again = jaxgmm.Model.from_fit(result, shift=shift, scale=scale)",
            f"print(again.digest)  # of this model: {model.digest}",
        ]
    )


def use_in_shell(path: str) -> str:
    """Commands that use the model file."""
    name = shlex.quote(path)
    return "\n".join(
        [
            f"jaxgmm predict {name} DATA -o labels.csv",
            f"jaxgmm score {name} DATA",
            f"jaxgmm sample {name} -n 1000 -o rows.csv",
        ]
    )


def use_in_python(path: str) -> str:
    """Lines that use the model file; `x` are rows in data units."""
    return "\n".join(
        [
            "import jaxgmm",
            "",
            f"model = jaxgmm.load({path!r})",
            "labels = model.predict(x)  # x: one row for each observation, in the order of the columns above",
            "shares = model.responsibilities(x)",
            "log_density = model.log_prob(x)",
        ]
    )
