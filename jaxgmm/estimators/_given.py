"""Starting values of `GaussianMixture` that the user gives: checked in scikit-learn's words, put into every lane."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxgmm._pytree import replace
from jaxgmm._status import DataError
from jaxgmm.covariance import get_family
from jaxgmm.data.rows import Rows
from jaxgmm.estimators._protocol import to_numeric
from jaxgmm.params import GMMParams


def check_given(estimator: Any, n_features: int) -> dict[str, np.ndarray]:
    """The checked parts of the start that the constructor gives, as float64 arrays."""
    family = get_family(estimator.covariance_type)
    shapes = {
        "weights": (estimator.n_components,),
        "means": (estimator.n_components, n_features),
        "precisions": family.shape(estimator.n_components, n_features),
    }
    given: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        value = getattr(estimator, f"{name}_init")
        if value is None:
            continue
        array = to_numeric(value, f"{name}_init").astype(np.float64, copy=False)
        label = f"{estimator.covariance_type} precision" if name == "precisions" else name
        if array.shape != shape:
            raise DataError(
                "E240",
                f"The parameter '{label}' should have the shape of {shape}, but got {array.shape}",
                f"give an array of shape {shape}",
            )
        given[name] = array
    if "weights" in given:
        weights = given["weights"]
        if (weights < 0).any() or (weights > 1).any():
            raise DataError(
                "E242",
                "The parameter 'weights' should be in the range [0, 1], but got max value "
                f"{weights.min():.5f}, min value {weights.max():.5f}",
                "divide the weights by their sum",
            )
        atol = 1e-6 if np.asarray(estimator.weights_init).dtype == np.float32 else 1e-8
        if abs(1.0 - weights.sum()) > atol:
            raise DataError(
                "E242",
                f"The parameter 'weights' should be normalized, but got sum(weights) = {weights.sum():.5f}",
                "divide the weights by their sum",
            )
    if "precisions" in given:
        _check_precisions(estimator, given["precisions"])
    return given


def _check_precisions(estimator: Any, precisions: np.ndarray) -> None:
    family = get_family(estimator.covariance_type)
    if family.correlated:
        symmetric = np.allclose(precisions, np.swapaxes(precisions, -1, -2))
        if not symmetric or not (np.linalg.eigvalsh(precisions) > 0).all():
            raise DataError(
                "E243",
                f"'{estimator.covariance_type} precision' should be symmetric, positive-definite",
                "give precisions P such that P = P.T with eigenvalues above 0",
            )
    elif (precisions <= 0).any():
        raise DataError(
            "E243", f"'{estimator.covariance_type} precision' should be positive", "give precisions above 0"
        )


def override(starts: GMMParams, given: dict[str, np.ndarray], rows: Rows) -> GMMParams:
    """Replace the given parts in every lane of the starts (which are in the units of the rows)."""
    lanes, dtype = starts.weights.shape[0], rows.dtype
    changes: dict[str, Any] = {}
    if "weights" in given:
        changes["weights"] = given["weights"]
    if "means" in given:
        changes["means"] = (given["means"] - rows.offset) / rows.scale
    if "precisions" in given:
        precisions = jax.numpy.asarray(given["precisions"] * rows.scale * rows.scale, dtype)
        changes["covariances"] = starts.family.from_precisions(precisions)
    return replace(
        starts, **{name: np.broadcast_to(np.asarray(v, dtype), (lanes, *np.shape(v))) for name, v in changes.items()}
    )
