"""scikit-learn's estimator protocol by duck typing: parameters, validation and errors in its wording.

Nothing here imports scikit-learn at module level. Its own exception and warning classes are raised when it
is loaded, so that ``except NotFittedError`` works; without it, built-in and own classes take their place.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np

from jaxgmm._checks import reads_as_number
from jaxgmm._status import ConvergenceWarning, DataError, FitError, Status, UsageError, marked

_SKLEARN_IMPUTE_HINT = (
    "For supervised learning, you might want to consider sklearn.ensemble.HistGradientBoostingClassifier and "
    "Regressor which accept missing values encoded as NaNs natively. Alternatively, it is possible to preprocess "
    "the data, for instance by using an imputer transformer in a pipeline or drop samples with missing values."
)


class _NotFitted(ValueError, AttributeError):
    """Raised instead of scikit-learn's NotFittedError where that is not loaded."""


class _InvalidParameter(ValueError, TypeError):
    """Raised instead of scikit-learn's InvalidParameterError where that is not loaded."""


def not_fitted_error() -> type[Exception]:
    """scikit-learn's NotFittedError if scikit-learn is loaded, else its equal."""
    loaded = sys.modules.get("sklearn.exceptions")
    return loaded.NotFittedError if loaded else _NotFitted


def convergence_warning() -> type[Warning]:
    """scikit-learn's ConvergenceWarning if scikit-learn is loaded, else the package's own."""
    loaded = sys.modules.get("sklearn.exceptions")
    return loaded.ConvergenceWarning if loaded else ConvergenceWarning


def invalid_parameter_error() -> type[Exception]:
    """scikit-learn's InvalidParameterError if scikit-learn is loaded, else its equal."""
    loaded = sys.modules.get("sklearn.utils._param_validation")
    return loaded.InvalidParameterError if loaded else _InvalidParameter


def ill_defined(dtype: np.dtype, status: Status) -> FitError:
    """scikit-learn's sentence about a covariance that became singular."""
    more = " The numerical accuracy can also be improved by passing float64 data instead of float32."
    return FitError(
        "E303",
        "Fitting the mixture model failed because some components have ill-defined empirical covariance "
        "(for instance caused by singleton or collapsed samples).",
        "try to decrease the number of components, increase reg_covar, or scale the input data."
        + (more if dtype == np.float32 else ""),
        status,
    )


# ---------------------------------------------------------------------------------------- parameter checks


def require(estimator: Any, name: str, sound: bool, expected: str) -> None:
    """Raise scikit-learn's sentence about an unusable constructor parameter."""
    if not sound:
        raise marked(
            invalid_parameter_error(),
            "E108",
            f"The {name!r} parameter of {type(estimator).__name__} must be {expected}. "
            f"Got {getattr(estimator, name)!r} instead.",
            f"for example {name}={_default(estimator, name)!r}",
        )


def _default(estimator: Any, name: str) -> Any:
    return type(estimator)._parameters()[name].default


def require_integer(estimator: Any, name: str, minimum: int) -> None:
    """The parameter must be a whole number of at least `minimum`."""
    value = getattr(estimator, name)
    sound = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= minimum
    require(estimator, name, sound, f"an int in the range [{minimum}, inf)")


def require_real(estimator: Any, name: str, minimum: float) -> None:
    """The parameter must be a finite number of at least `minimum`."""
    value = getattr(estimator, name)
    sound = isinstance(value, Real) and not isinstance(value, bool) and minimum <= float(value) < float("inf")
    require(estimator, name, sound, f"a float in the range [{minimum}, inf)")


def require_choice(estimator: Any, name: str, choices: tuple[str, ...]) -> None:
    """The parameter must be one of `choices`."""
    value = getattr(estimator, name)
    listed = ", ".join(repr(choice) for choice in sorted(choices))
    require(estimator, name, isinstance(value, str) and value in choices, f"a str among {{{listed}}}")


def check_random_state(seed: Any) -> np.random.RandomState:
    """NumPy's global generator for None, a seeded one for an integer, and a RandomState as it is."""
    if seed is None or seed is np.random:
        return np.random.mtrand._rand
    if isinstance(seed, Integral):
        if not 0 <= int(seed) < 2**32:
            raise UsageError("E108", f"Seed must be between 0 and 2**32 - 1, got {seed}", "for example random_state=0")
        return np.random.RandomState(int(seed))
    if isinstance(seed, np.random.RandomState):
        return seed
    raise UsageError(
        "E108",
        f"{seed!r} cannot be used to seed a numpy.random.RandomState instance",
        "give an integer, a RandomState or None",
    )


# --------------------------------------------------------------------------------------------- data checks


def _feature_names(x: Any) -> np.ndarray | None:
    """Column names of a data frame if all are strings."""
    columns = getattr(x, "columns", None)
    if columns is None or not hasattr(x, "shape"):
        return None
    names = np.asarray(list(columns), dtype=object)
    kinds = {type(name).__name__ for name in names if not isinstance(name, str)}
    if not kinds and len(names):
        return names
    if kinds and any(isinstance(name, str) for name in names):
        raise marked(
            TypeError,
            "E214",
            (
                "Feature names are only supported if all input features have string names, but your input "
                f"has {sorted({type(name).__name__ for name in names})} as feature name / column name types. "
                "If you want feature names to be stored and validated, you must convert them all to strings, "
                "by using X.columns = X.columns.astype(str) for example. Otherwise you can remove feature / "
                "column names from your input data, or convert them all to a non-string data type."
            ),
            "rename the columns",
        )
    return None


def _check_feature_names(estimator: Any, x: Any, *, reset: bool) -> None:
    """Remember column names at fit, compare them afterwards, in scikit-learn's words."""
    names = _feature_names(x)
    if reset:
        if names is not None:
            estimator.feature_names_in_ = names
        elif hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
        return
    fitted = getattr(estimator, "feature_names_in_", None)
    owner = type(estimator).__name__
    if fitted is None and names is None:
        return
    if names is None:
        found = f"X does not have valid feature names, but {owner} was fitted with feature names"
        warnings.warn(marked(UserWarning, "W201", found, "pass a data frame with the same columns"), stacklevel=4)
        return
    if fitted is None:
        found = f"X has feature names, but {owner} was fitted without feature names"
        warnings.warn(marked(UserWarning, "W201", found, "fit on a data frame, or pass an array"), stacklevel=4)
        return
    if len(fitted) == len(names) and (fitted == names).all():
        return
    unexpected, missing = sorted(set(names) - set(fitted)), sorted(set(fitted) - set(names))
    text = "The feature names should match those that were passed during fit.\n"
    for title, group in (("unseen at fit time", unexpected), ("seen at fit time, yet now missing", missing)):
        if group:
            shown = "".join(f"- {name}\n" for name in group[:5]) + ("- ...\n" if len(group) > 5 else "")
            text += f"Feature names {title}:\n{shown}"
    if not unexpected and not missing:
        text += "Feature names must be in the same order as they were in fit.\n"
    raise DataError("E213", text.rstrip(), "give the columns that the estimator was fitted on, in that order")


def to_numeric(x: Any, name: str) -> np.ndarray:
    """A native float32 or float64 array from anything dense and numeric."""
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise marked(
            TypeError,
            "E204",
            (
                f"Sparse data was passed for {name}, but dense data is required. Use '.toarray()' to convert "
                "to a dense numpy array."
            ),
            f"pass {name}.toarray()",
        )
    try:
        array = np.asarray(x)
    except ValueError as error:  # NumPy's words, which scikit-learn passes on
        raise DataError("E206", str(error), "give every row the same length") from None
    if array.dtype.kind == "c":
        raise DataError("E202", f"Complex data not supported\n{array}", "pass real and imaginary part as two columns")
    if array.dtype.kind in "USV":
        if array.dtype.kind == "V":
            raise DataError("E201", "dtype='numeric' is not compatible with arrays of bytes/strings.", "pass numbers")
        return _parse(array.astype(object), name)
    if array.dtype.kind == "O":
        return _parse(array, name)
    target = np.float32 if array.dtype.kind == "f" and array.dtype.itemsize == 4 else np.float64
    return array.astype(target, copy=False) if array.dtype.isnative else array.astype(np.dtype(target))


def _parse(array: np.ndarray, name: str) -> np.ndarray:
    """Object and string arrays become float64, or say which value cannot."""
    try:
        return array.astype(np.float64)
    except ValueError as error:
        raise DataError("E201", f"{error} in {name}", "drop or encode such columns first") from None
    except TypeError as error:
        found = next((v for v in array.ravel() if not reads_as_number(v)), None)
        raise marked(
            TypeError, "E201", f"{error} ({name} contains {str(found)[:60]!r})", "argument must be a string or a number"
        ) from None


def _check_finite(array: np.ndarray, name: str, owner: str) -> None:
    """scikit-learn's sentence about NaN and infinity, with the first place where it is."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum()) or np.isfinite(array).all():
            return
    place = np.argwhere(~np.isfinite(array))[0]
    where = f"row {place[0]}" + (f", column {place[1]}" if len(place) > 1 else "")
    if np.isnan(array).any():
        hint = f"\n{owner} does not accept missing values encoded as NaN natively. {_SKLEARN_IMPUTE_HINT}"
        raise DataError(
            "E203",
            f"Input {name} contains NaN.{hint} The first bad value is at {where}, counted from 0.",
            "drop or impute such rows",
        )
    raise DataError(
        "E203",
        (
            f"Input {name} contains infinity or a value too large for {array.dtype!r}. The first bad "
            f"value is at {where}, counted from 0."
        ),
        "drop such rows, or pass float64",
    )


def validate_data(estimator: Any, x: Any, *, reset: bool, min_samples: int = 1) -> np.ndarray:
    """Data as a finite 2-D native float array, with scikit-learn's errors; remembers shape and names at fit."""
    owner = type(estimator).__name__
    _check_feature_names(estimator, x, reset=reset)
    array = to_numeric(x, "X")
    reshape = (
        "reshape your data either using array.reshape(-1, 1) if your data has a single feature or "
        "array.reshape(1, -1) if it contains a single sample."
    )
    if array.ndim < 2:
        kind = "scalar" if array.ndim == 0 else "1D"
        raise DataError("E207", f"Expected 2D array, got {kind} array instead:\narray={array}.", reshape)
    if array.ndim > 2:
        raise DataError(
            "E207",
            f"Found array with dim {array.ndim}, while dim <= 2 is required by {owner}.",
            "pass one row per sample and one column per feature",
        )
    n_samples, n_features = array.shape
    found = f"(shape={array.shape}) while a minimum of"
    if n_samples < min_samples:
        raise DataError(
            "E209",
            f"Found array with {n_samples} sample(s) {found} {min_samples} is required by {owner}.",
            f"give at least {min_samples}",
        )
    if n_features < 1:
        raise DataError(
            "E208",
            f"Found array with {n_features} feature(s) {found} 1 is required by {owner}.",
            "give at least one column",
        )
    _check_finite(array, "X", owner)
    if reset:
        estimator.n_features_in_ = n_features
    elif n_features != estimator.n_features_in_:
        raise DataError(
            "E210",
            f"X has {n_features} features, but {owner} is expecting {estimator.n_features_in_} features as input",
            "give the columns of the fit",
        )
    return array


def validate_sample_weight(estimator: Any, sample_weight: Any, n_samples: int, dtype: Any) -> np.ndarray:
    """(N) finite weights >= 0 with a positive sum, with scikit-learn's errors; None is all ones, a number all equal."""
    if sample_weight is None:
        return np.ones(n_samples, dtype)
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n_samples, sample_weight)
    weight = to_numeric(sample_weight, "sample_weight")
    if weight.ndim != 1:
        raise DataError(
            "E220", f"Sample weights must be 1D array or scalar, got {weight.ndim}D array.", "give one weight a row"
        )
    if weight.shape != (n_samples,):
        raise DataError(
            "E220", f"sample_weight.shape == {weight.shape}, expected {(n_samples,)}!", "give one weight a row"
        )
    _check_finite(weight, "sample_weight", type(estimator).__name__)
    if (weight < 0).any():
        raise DataError("E221", "Negative values in data passed to `sample_weight`.", "weights must be at least 0")
    if not weight.any():
        raise DataError(
            "E222", "Sample weights must contain at least one non-zero number.", "give at least one positive weight"
        )
    return weight.astype(dtype, copy=False)


# -------------------------------------------------------------------------------------------- the protocol


class EstimatorProtocol:
    """get_params, set_params, repr, tags and metadata routing for a class whose constructor only stores."""

    @classmethod
    def _parameters(cls) -> dict[str, inspect.Parameter]:
        signature = inspect.signature(cls.__init__)
        return {name: p for name, p in sorted(signature.parameters.items()) if name != "self"}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor parameters by name."""
        return {name: getattr(self, name) for name in self._parameters()}

    def set_params(self, **params: Any) -> Any:
        """Change constructor parameters; ValueError names the valid ones."""
        valid = list(self._parameters())
        for name, value in params.items():
            if name not in valid:
                raise UsageError(
                    "E150",
                    f"Invalid parameter {name!r} for estimator {self}. Valid parameters are: {valid!r}.",
                    "choose one of them",
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        changed = (
            f"{name}={getattr(self, name)!r}"
            for name, p in self._parameters().items()
            if repr(getattr(self, name)) != repr(p.default)
        )
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "means_")

    def _check_is_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise marked(
                not_fitted_error(),
                "E146",
                f"This {type(self).__name__} instance is not fitted yet.",
                "call 'fit' with appropriate arguments before using this estimator",
            )

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type="density_estimator",
            target_tags=TargetTags(required=False),
            input_tags=InputTags(),
        )

    def get_metadata_routing(self) -> Any:
        """scikit-learn's routing request: `sample_weight` is asked for as set by ``set_fit_request`` and the like."""
        from sklearn.utils.metadata_routing import MetadataRequest

        request = MetadataRequest(owner=self)
        for method, params in getattr(self, "_requests", {}).items():
            for name, alias in params.items():
                getattr(request, method).add_request(param=name, alias=alias)
        return request

    def _request(self, method: str, **params: Any) -> Any:
        requests = {m: dict(p) for m, p in getattr(self, "_requests", {}).items()}
        requests.setdefault(method, {}).update(params)
        self._requests = requests
        return self

    def set_fit_request(self, *, sample_weight: Any) -> Any:
        """Say whether a meta-estimator passes `sample_weight` to ``fit``."""
        return self._request("fit", sample_weight=sample_weight)

    def set_score_request(self, *, sample_weight: Any) -> Any:
        """Say whether a meta-estimator passes `sample_weight` to ``score``."""
        return self._request("score", sample_weight=sample_weight)
