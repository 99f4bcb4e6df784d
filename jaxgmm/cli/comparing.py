"""Components against known classes, as ``--label-column`` asks, and against another method: ``--compare-with``."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from jaxgmm import compare as _compare
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.data import Table
from jaxgmm.data.batches import is_source
from jaxgmm.functional import silhouette
from jaxgmm.model import Model
from jaxgmm.report import clip

# A table of counts is printed up to this many classes and components.
MAX_SHOWN = 8
# scikit-learn's defaults.
_RADIUS, _NEIGHBOURS = 0.5, 5
_SHARED_TYPES = ("full", "tied", "diag", "spherical")


def compare(labels: np.ndarray, table: Table, console: Console) -> dict[str, Any]:
    """Print how well `labels` (N), components, match the known classes of a table, and return the numbers."""
    truth = table.labels
    assert truth is not None  # asked for only where a table has classes
    numbers: dict[str, Any] = {
        "accuracy": _compare.accuracy_up_to_relabelling(truth, labels),
        "misclassification_rate": _compare.misclassification_rate(truth, labels),
        "adjusted_rand_index": _compare.adjusted_rand_index(truth, labels),
    }
    classes, components = np.unique(truth), np.unique(labels)
    names = [table.label_names[c] if table.label_names else str(c) for c in classes]
    console.result(
        f"against the known classes: accuracy {numbers['accuracy']:.4f} up to relabelling, "
        f"ARI {numbers['adjusted_rand_index']:.4f}"
    )
    if max(len(classes), len(components)) > MAX_SHOWN:
        return numbers
    counts = [[int(np.sum((truth == c) & (labels == k))) for k in components] for c in classes]
    lines = [f"{'class':<14}k" + "".join(f"{k:>8}" for k in components)]
    for name, row in zip(names, counts, strict=True):
        lines.append(f"{clip(name, 14):<15}" + "".join(f"{n:>8}" for n in row))
    console.result("\n".join(lines))
    return numbers | {"classes": names, "components": components.tolist(), "counts": counts}


def compare_with(model: Model, table: Table, settings: Settings, console: Console) -> dict[str, Any]:
    """Run the method that the settings name on the rows that were fitted, and print how it does beside `model`.

    Returns the numbers under "compared_with", or nothing where no comparison is asked for or possible.
    """
    method = settings.get("compare_with")
    obstacle = _obstacle(method, model, table)
    if method is None or obstacle is not None:
        if obstacle is not None:
            console.warn("W312", *obstacle)
        return {}
    # The rows as they were fitted: standardized, if that was asked for.
    z = np.asarray((table.x - model.shift) / model.scale, model.params.means.dtype)
    run = _dbscan if method == "dbscan" else _scikit_learn
    found = run(z, model, table, settings, console)
    return {"compared_with": {"method": method, **found}} if found else {}


def _obstacle(method: str | None, model: Model, table: Table) -> tuple[str, str] | None:
    """Why there can be no comparison and what to do, or None."""
    if method is None:
        return None
    if is_source(table.x):
        return "the rows are streamed, and scikit-learn needs them all in memory", "compare on a part of the rows"
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return "scikit-learn is not installed, so there is nothing to compare with", "pip install 'jaxgmm[sklearn]'"
    if method == "scikit-learn" and table.sample_weight is not None:
        return "scikit-learn's mixtures take no weights", "leave out --weight-column to compare"
    if method == "scikit-learn" and model.covariance_type not in _SHARED_TYPES:
        found = f"scikit-learn has no mixture with {model.covariance_type} covariances"
        return found, f"it has {', '.join(_SHARED_TYPES)}"
    return None


def _dbscan(z: np.ndarray, model: Model, table: Table, settings: Settings, console: Console) -> dict[str, Any]:
    """Clusters as regions where rows lie dense; rows in none are noise and not part of the silhouette."""
    from sklearn.cluster import DBSCAN

    method = DBSCAN(eps=_RADIUS, min_samples=_NEIGHBOURS)
    labels = np.asarray(method.fit(z, sample_weight=table.sample_weight).labels_)
    dense = labels >= 0
    n_clusters, n_noise = len(np.unique(labels[dense])), int(np.sum(~dense))
    found: dict[str, Any] = {"clusters": n_clusters, "noise": n_noise, "eps": _RADIUS, "min_samples": _NEIGHBOURS}
    text = "no silhouette"
    if n_clusters > 1:
        weight = None if table.sample_weight is None else table.sample_weight[dense]
        found["silhouette"] = silhouette(z[dense], labels[dense], weight)
        text = f"Silhouette score: {found['silhouette']:.4f}"
    if n_clusters:
        ours = model.predict(table.x)[dense]
        found["adjusted_rand_index"] = _compare.adjusted_rand_index(ours, labels[dense])
        text += f"; ARI with the mixture {found['adjusted_rand_index']:.4f}"
    console.result(f"DBSCAN: {n_clusters} cluster{'s' * (n_clusters != 1)}; {text}")
    if n_noise:
        console.result(f"        {n_noise} of {len(z)} rows are noise, and left out")
    return found


def _scikit_learn(z: np.ndarray, model: Model, table: Table, settings: Settings, console: Console) -> dict[str, Any]:
    """scikit-learn's mixture of the same size and shape, from as many starts, stopped as it is by default."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    options = model.meta["options"]
    # It adds one number to all variances: of a floor in units of the columns' variances, their mean.
    floor = options["reg_covar"] * (float(z.var(axis=0).mean()) if options["reg_kind"] == "relative" else 1.0)
    theirs = GaussianMixture(
        model.n_components,
        covariance_type=model.covariance_type,
        n_init=settings["n_restarts"],
        max_iter=max(1, settings["max_iter"]),
        reg_covar=floor,
        random_state=model.meta["seed"],
    )
    try:
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            labels = theirs.fit_predict(z)
    except ValueError as error:
        console.warn("W312", f"scikit-learn could not fit these rows: {error}", "raise reg_covar to compare")
        return {}
    ours = model.predict(table.x)
    score = float(theirs.score(z)) - math.fsum(np.log(model.scale))
    found = {"score": score, "converged": bool(theirs.converged_), "n_iter": int(theirs.n_iter_)}
    found["agreement"] = _compare.agreement(ours, labels)
    rows = [("mean log-likelihood", model.score(table.x), score)]
    if table.labels is not None:
        found["accuracy"] = _compare.accuracy_up_to_relabelling(table.labels, labels)
        rows.append(("accuracy", _compare.accuracy_up_to_relabelling(table.labels, ours), found["accuracy"]))
    lines = [f"{'':<20}{'jaxgmm':>14}{'scikit-learn':>14}"]
    lines += [f"{name:<20}{a:>14.4f}{b:>14.4f}" for name, a, b in rows]
    console.result("\n".join([*lines, f"both put {found['agreement']:.2%} of the rows into the same components"]))
    return found
