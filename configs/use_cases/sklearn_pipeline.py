"""Use case: jaxgmm in the place of scikit-learn's mixture, by one import.

A pipeline standardizes 13 measurements of 178 wines, keeps three principal components, and fits a Gaussian mixture;
GridSearchCV chooses the number of components by the held-out likelihood. The same pipeline runs twice, the only
difference being where GaussianMixture was imported from. The number is the largest difference between the two in a
membership probability or a log-density, after 20 iterations from the same start.

Run: python configs/use_cases/sklearn_pipeline.py    (needs scikit-learn and matplotlib; data: configs/data/wine.csv)
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _common import BLUE, GREEN, ORANGE, axes, check_figure, command_line, save
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture as Theirs
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import jaxgmm
from jaxgmm import GaussianMixture  # the one line: it was `from sklearn.mixture import GaussianMixture`
from jaxgmm.plot import ellipses

WINE = Path(__file__).parents[1] / "data" / "wine.csv"


def make_pipeline(mixture: type, **options: Any) -> Pipeline:
    """The pipeline of either library."""
    gmm = mixture(random_state=0, **({"max_iter": 500} | options))
    return Pipeline([("scale", StandardScaler()), ("pca", PCA(3)), ("gmm", gmm)])


def main(
    figure: str | None = None,
    *,
    force: bool = False,
    candidates: tuple[int, ...] = (1, 2, 3, 4, 5),
    n_init: int = 5,
    n_steps: int = 20,  # after some 40 nothing changes any more, and jaxgmm stops
) -> dict[str, Any]:
    """Search with both, then fit both from one start and compare."""
    check_figure(figure, force)
    table = jaxgmm.data.read_table(WINE, label_column="class")
    searches, folds = {}, KFold(5, shuffle=True, random_state=0)
    for mixture in (GaussianMixture, Theirs):
        grid = {"gmm__n_components": list(candidates)}
        searches[mixture] = GridSearchCV(make_pipeline(mixture, n_init=n_init), grid, cv=folds).fit(table.x)
    ours, theirs = searches[GaussianMixture], searches[Theirs]
    chosen = ours.best_params_["gmm__n_components"]

    # The two draw their k-means starts from different random streams, so the comparison gives both the same one. They
    # look at the likelihood one step apart, so both are told not to stop, of which both warn.
    z = ours.best_estimator_[:-1].transform(table.x)
    clusters = KMeans(chosen, n_init=1, random_state=0).fit_predict(z)
    start = jaxgmm.params_from_labels(z, clusters)
    given = {
        "weights_init": np.asarray(start.weights, np.float64) / np.sum(start.weights),
        "means_init": start.means,
        "precisions_init": np.linalg.inv(start.covariances),
        "tol": 0.0,
        "max_iter": n_steps,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = [make_pipeline(mixture, n_components=chosen, **given).fit(table.x) for mixture in searches]
    shares, densities = ([getattr(f, name)(table.x) for f in fitted] for name in ("predict_proba", "score_samples"))
    difference = max(float(np.abs(a - b).max()) for a, b in (shares, densities))
    agreement = jaxgmm.adjusted_rand_index(table.labels, fitted[0].predict(table.x))

    print(
        f"After {n_steps} iterations from the same start, the pipelines of jaxgmm and scikit-learn differ by at most "
        f"{difference:.1e} in any membership probability or log-density of {len(z)} wines."
    )
    print(
        f"Grid search: {chosen} components with jaxgmm, {theirs.best_params_['gmm__n_components']} with scikit-learn; "
        f"adjusted Rand index with the cultivars {agreement:.2f}."
    )
    if figure is not None:
        drawing, (left, right) = axes(2)
        counts = list(candidates)
        left.plot(counts, theirs.cv_results_["mean_test_score"], "s-", color=ORANGE, ms=9, mfc="none", label="sklearn")
        left.plot(counts, ours.cv_results_["mean_test_score"], "o--", color=BLUE, ms=4, label="jaxgmm")
        left.set(xlabel="components", ylabel="held-out log-likelihood (nats a row)", xticks=counts)
        left.legend(frameon=False)
        for cultivar, colour, marker in zip(np.unique(table.labels), (BLUE, ORANGE, GREEN), "o^s", strict=True):
            own = table.labels == cultivar
            right.scatter(*z[own, :2].T, c=colour, marker=marker, s=18, label=f"cultivar {cultivar}")
        ellipses(fitted[0][-1], features=(0, 1), ax=right, edgecolor="black")
        right.set(xlabel="first principal component", ylabel="second principal component")
        right.legend(frameon=False, fontsize="small", loc="lower left")
        save(drawing, figure)
    return {
        "difference": difference,
        "chosen": chosen,
        "chosen_by_sklearn": theirs.best_params_["gmm__n_components"],
        "scores": ours.cv_results_["mean_test_score"],
        "scores_of_sklearn": theirs.cv_results_["mean_test_score"],
        "rand_index": agreement,
    }


if __name__ == "__main__":
    command_line(main, __file__)
