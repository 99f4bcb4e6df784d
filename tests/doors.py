"""Every public function of data as a function of x alone: the tests of what is refused and accepted go through all."""

import numpy as np

import jaxgmm
from tests.helpers import (
    K,
    N,
    start,
)

PARAMS = start("full")
LABELS = np.arange(N) % K


def fit(x, n_components=K, **options):
    """The cheapest fit: two iterations from a given start."""
    return jaxgmm.fit(x, n_components, **{"init": PARAMS, "max_iter": 2} | options)


# Every public function of data, as a function of x alone that returns arrays or numbers.
DOORS = {
    "fit": lambda x: fit(x).params.means,
    "sweep": lambda x: jaxgmm.sweep(x, [2], key=0, max_iter=2).values,
    "log_prob": lambda x: jaxgmm.log_prob(PARAMS, x),
    "component_log_prob": lambda x: jaxgmm.component_log_prob(PARAMS, x),
    "responsibilities": lambda x: jaxgmm.responsibilities(PARAMS, x),
    "log_responsibilities": lambda x: jaxgmm.log_responsibilities(PARAMS, x),
    "predict": lambda x: jaxgmm.predict(PARAMS, x),
    "uncertainty": lambda x: jaxgmm.uncertainty(PARAMS, x),
    "score": lambda x: jaxgmm.score(PARAMS, x),
    "e_step": lambda x: jaxgmm.e_step(PARAMS, x).x_sum,
    "em_step": lambda x: jaxgmm.em_step(PARAMS, x)[0].means,
    "silhouette": lambda x: jaxgmm.silhouette(x, LABELS),
    "orthant_counts": lambda x: jaxgmm.orthant_counts(x)[0],
    "params_from_labels": lambda x: jaxgmm.params_from_labels(x, LABELS).means,
    "params_from_means": lambda x: jaxgmm.params_from_means(x, PARAMS.means).means,
    "params_from_responsibilities": lambda x: jaxgmm.params_from_responsibilities(x, np.eye(K)[LABELS]).means,
}
OF_A_MODEL = [
    "log_prob",
    "component_log_prob",
    "responsibilities",
    "log_responsibilities",
    "predict",
    "uncertainty",
    "score",
    "e_step",
    "em_step",
    "fit",
]
