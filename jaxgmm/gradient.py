"""`fit_gradient`: the same fit by gradient ascent, for those who want an optimiser or a penalty of their own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from jaxgmm._checks import check_count, check_key, precision_context
from jaxgmm._options import default_reg_covar, em_options
from jaxgmm._status import FitError, Status, UsageError, cause, cure
from jaxgmm.api import check_init, checked_rows
from jaxgmm.covariance import get_family
from jaxgmm.em.climb import Task, climb_lanes
from jaxgmm.em.restarts import Method, fit_rows
from jaxgmm.em.result import FitResult
from jaxgmm.params import GMMParams
from jaxgmm.prior import Prior, prior_for


def fit_gradient(
    x: Any,
    n_components: int,
    *,
    optimizer: Any = None,
    penalty: Callable[[GMMParams], Any] | None = None,
    batch_size: int | None = None,
    covariance_type: str = "full",
    key: Any = None,
    n_restarts: int = 1,
    init: str | GMMParams = "kmeans",
    tol: float = 1e-8,
    reg_covar: float | None = None,
    reg_kind: str = "relative",
    prior: Prior | str | None = None,
    max_iter: int = 1000,
    sample_weight: Any = None,
) -> FitResult:
    """Fit a Gaussian mixture by gradient ascent with any optax optimiser, and return the best of the starts.

    Maximises ℓ + log prior − penalty, ℓ as in `fit`, over weights w = softmax(a), means, and covariances
    Σ_k = L_k L_kᵀ + reg_covar. A gradient costs what an EM iteration costs, in the same blocks of rows. Without a
    penalty EM is simpler and as a rule faster.

    optimizer: an optax gradient transformation; ``optax.lbfgs()`` if None. It sees the mean loss per unit of weight as
    a function of parameters in units of their Fisher information at the start: a learning rate of 0.01 to 0.1 suits
    most. penalty: a JAX function of `GMMParams`, in the units of the data, to one number; it is subtracted from ℓ.
    batch_size: rows per update, in a new random order in each epoch; None: all rows at once. max_iter: largest number
    of iterations, with batches of epochs. tol: it ends when the objective changes by no more than tol (1 + |ℓ|) and its
    gradient says that an EM iteration would gain no more either, which an optimiser with batches or a constant
    learning rate may never reach. The other arguments are those of `fit`; batches need a key too.

    Returns a `FitResult` of the best parameters seen; its ``log_prior`` is log prior − penalty, ``log_posterior`` what
    was maximised, and ``kernel`` always whitening: a line search compares values that must not jump. Raises as `fit`
    does, and `UsageError` for an optimiser or a penalty that cannot be used. The same functions, not only equal ones,
    share compiled programs.

    >>> import jax.numpy as jnp, numpy as np
    >>> x = np.concatenate([np.linspace(-6, -4, 50), np.linspace(4, 6, 50)])[:, None]
    >>> towards_zero = lambda params: 100.0 * jnp.sum(params.means**2)
    >>> free, pulled = (fit_gradient(x, 2, key=0, penalty=p) for p in (None, towards_zero))
    >>> free.converged, np.sort(free.params.means[:, 0]).round(3).tolist()
    (True, [-5.0, 5.0])
    >>> bool(np.ptp(pulled.params.means) < 9.0)
    True
    """
    n_components = check_count(n_components, "n_components")
    family = get_family(covariance_type).name
    rows = checked_rows(x, n_components, sample_weight)
    if batch_size is not None:
        batch_size = min(check_count(batch_size, "batch_size"), rows.x.shape[0])
    task = Task(
        optimizer=_check_optimizer(optimizer),
        penalty=penalty if penalty is None else _hashed(penalty),
        batch_size=batch_size,
    )
    with precision_context(rows.dtype):
        start, keys = check_init(init, rows, [n_components], family, key, check_count(n_restarts, "n_restarts"))
        options = em_options(
            rows.dtype, tol=tol, reg_covar=default_reg_covar(reg_covar, prior), reg_kind=reg_kind, max_iter=max_iter
        )
        batches = jax.random.key(0) if batch_size is None else jax.random.fold_in(check_key(key, "batch_size"), 1)
        result = fit_rows(
            rows,
            [n_components],
            covariance_type=family,
            init=start,
            keys=keys,
            options=options,
            how=Method(
                prior=prior_for(prior, family, rows.n_features), run=partial(climb_lanes, task=task, key=batches)
            ),
        )[n_components]
    if isinstance(result, FitError):
        raise result
    if result.status == Status.UNBOUNDED:
        found = f"{cause(result.status).removeprefix('stopped: ')}, here in iteration {result.n_iter}"
        raise UsageError("E153", found, cure(result.status))
    return result


@functools.cache
def _default_optimizer() -> Any:
    import optax

    return optax.lbfgs()


def _check_optimizer(optimizer: Any) -> Any:
    if optimizer is None:
        return _default_optimizer()
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        raise UsageError(
            "E145",
            f"optimizer is {optimizer!r:.80}, which has no init and update",
            "give a gradient transformation of optax, such as optax.adam(0.05)",
        )
    if not _has_hash(optimizer):
        import optax

        return optax.GradientTransformationExtraArgs(
            _hashed(optimizer.init), _hashed(optax.with_extra_args_support(optimizer).update)
        )
    return optimizer


def _has_hash(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _hashed(function: Any) -> Any:
    return function if _has_hash(function) else _Same(function)


class _Same:
    """A function that cannot be hashed, such as one with arrays in it: the same as itself only."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)
