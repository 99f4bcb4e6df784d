"""EM for Gaussian mixtures in NumPy, as fast as NumPy can reasonably make it: the baseline of the benchmarks.

Rows are centred once on a pivot and kept features-first (D x N), so that elementwise operations run along
contiguous memory; they are visited in blocks that stay in cache, and nothing of size N x K is stored. There are
two kernels:

features   log pi_k N(x | mu_k, Sigma_k) = phi(x) . theta_k, with phi(x) = [1, x, x_i x_j for i <= j] for full,
           [1, x, x^2] for diag, [1, x, |x|^2] for spherical. All log-densities of a block are one product
           (K x F)(F x B), and the moments sum_n r_nk phi(x_n) are one more. For tied, phi(x) = [1, x] will
           do: x^T P x is the same for every component, so it cancels from the responsibilities, and in the
           log-likelihood it adds up to tr(P T) with T = sum_n w_n x_n x_n^T, which no iteration changes.
           The fastest by far, but the log-density of a row near mu_k is a small difference of terms as large
           as mu_k^T Sigma_k^-1 mu_k, of which rounding leaves an error of eps times that.
centred    per component d = x - mu_k, |L_k^-1 d|^2 with Sigma_k = L_k L_k^T, and the moments of d: second
           moments about the current means, accurate at any separation. Scaling d by sqrt(r) makes the second
           moment A A^T, which NumPy hands to BLAS as a symmetric product at half the work.

kernel="auto" looks at that bound in every iteration and takes the first while it is below LOSS_ALLOWED.
With centres c_k (the pivot, or the current means), n_k = sum_n r_nk and s_k = sum_n r_nk (x_n - c_k) / n_k:

    mu_k = c_k + s_k        Sigma_k = sum_n r_nk (x_n - c_k)(x_n - c_k)^T / n_k - s_k s_k^T + reg_covar I

Parameters and running sums are float64; the work on rows has the dtype of x.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

Array = np.ndarray
Params = tuple[Array, Array, Array]  # weights, means about the pivot, covariances; float64
Factors = tuple[Array, Array]  # what _factorise returns

# Far below these, exp() and its products are subnormal: no digit of any sum, but very slow to multiply.
LOWEST_LOG_RESP = {np.dtype(np.float32): -70.0, np.dtype(np.float64): -600.0}
LOSS_ALLOWED = 1e-3  # in one log-density; the mean over rows then comes out some 20 times closer


@dataclass(frozen=True)
class BaselineResult:
    """Parameters after n_iter iterations (in the dtype of x) and their own weighted total log-likelihood."""

    weights: Array
    means: Array
    covariances: Array
    log_likelihood: float
    n_iter: int


def _factorise(family: str, weights: Array, means: Array, covariances: Array) -> Factors:
    """log pi_k - 1/2 log |2 pi Sigma_k| (K,), and L_k^-1 (K, D, D) or, if diagonal, 1 / variances (K, D)."""
    k, d = means.shape
    log_scale = np.log(weights) - 0.5 * d * math.log(2 * math.pi)
    if family in ("diag", "spherical"):
        variances = np.broadcast_to(covariances.reshape(k, -1), (k, d))
        return log_scale - 0.5 * np.log(variances).sum(axis=1), 1 / variances
    factor = np.linalg.cholesky(covariances.reshape(-1, d, d))  # one of them for tied
    log_scale = log_scale - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    inverse = np.linalg.solve(factor, np.broadcast_to(np.eye(d), factor.shape))
    return log_scale, np.broadcast_to(inverse, (k, d, d))


def _choose(means: Array, whiten: Array, dtype: np.dtype) -> str:
    squares = (whiten @ means[:, :, None])[:, :, 0] ** 2 if whiten.ndim == 3 else whiten * means**2
    return "features" if np.finfo(dtype).eps * squares.sum(axis=1).max() < LOSS_ALLOWED else "centred"


def _blocks(xt: Array, row_weight: Array | None, rows: int) -> Iterator[tuple[Array, Array | None]]:
    for start in range(0, xt.shape[1], rows):
        part = slice(start, start + rows)
        yield xt[:, part], None if row_weight is None else row_weight[part]


def _normalise(joint: Array, row_weight: Array | None) -> float:
    """Turn log pi_k N(x_n | k) (K x B) into w_n r_nk in place; return sum_n w_n log p(x_n). Log-sum-exp."""
    largest = joint.max(axis=0)
    joint -= largest
    np.maximum(joint, joint.dtype.type(LOWEST_LOG_RESP[joint.dtype]), out=joint)
    np.exp(joint, out=joint)
    total = joint.sum(axis=0)
    log_prob = np.log(total) + largest
    joint *= (1 if row_weight is None else row_weight) / total
    return float(np.float64(log_prob) @ (np.ones_like(total) if row_weight is None else row_weight))


def _collect_features(
    family: str, means: Array, factors: Factors, rows: int, moments: bool, xt: Array, row_weight: Array | None
) -> tuple[float, Array]:
    """Log-likelihood (tied: but for the term in T) and sum_n w_n r_nk phi(x_n), shape (K, F)."""
    d, (constant, whiten) = len(xt), factors
    if family in ("full", "tied"):
        precisions = whiten.transpose(0, 2, 1) @ whiten
        linear = (precisions @ means[:, :, None])[:, :, 0]
        i, j = np.triu_indices(d if family == "full" else 0)
        quadratic = precisions[:, i, j] * np.where(i == j, -0.5, -1.0)
    else:
        linear, quadratic = whiten * means, -0.5 * whiten[:, : 1 if family == "spherical" else d]
    constant = constant - 0.5 * (linear * means).sum(axis=1)
    theta = np.hstack([constant[:, None], linear, quadratic]).astype(xt.dtype)

    log_likelihood, sums = 0.0, np.zeros(theta.shape)
    buffer = np.ones((theta.shape[1], rows), xt.dtype)
    starts = 1 + d + np.cumsum([0, *range(d, 1, -1)])  # of the products x_i x_j, j = i .. D - 1, in phi
    for x, w in _blocks(xt, row_weight, rows):
        phi = buffer[:, : x.shape[1]]
        phi[1 : 1 + d] = x
        if family == "full":
            for i, at in enumerate(starts):
                np.multiply(x[i:], x[i], out=phi[at : at + d - i])
        elif family == "diag":
            np.multiply(x, x, out=phi[1 + d :])
        elif family == "spherical":
            np.einsum("ij,ij->j", x, x, out=phi[1 + d])
        joint = theta @ phi
        log_likelihood += _normalise(joint, w)
        if moments:
            sums += joint @ phi.T
    return log_likelihood, sums


def _collect_centred(
    family: str, means: Array, factors: Factors, rows: int, moments: bool, xt: Array, row_weight: Array | None
) -> tuple[float, Array]:
    """Log-likelihood and the same sums as above with x - mu_k in the place of x (tied: like full)."""
    (k, d), dtype, matrices = means.shape, xt.dtype, family in ("full", "tied")
    log_scale, whiten, means = (a.astype(dtype) for a in (*factors, means[:, :, None]))
    upper = np.triu_indices(d)
    n_second = {"diag": d, "spherical": 1}.get(family, len(upper[0]))
    log_likelihood, sums = 0.0, np.zeros((k, 1 + d + n_second))
    buffer = np.empty((2, d, rows), dtype)
    for x, w in _blocks(xt, row_weight, rows):
        diff, work = buffer[:, :, : x.shape[1]]
        joint = np.empty((k, x.shape[1]), dtype)
        for c in range(k):
            np.subtract(x, means[c], out=diff)
            if matrices:
                np.einsum("ij,ij->j", np.matmul(whiten[c], diff, out=work), work, out=joint[c])
            else:
                np.matmul(whiten[c], np.multiply(diff, diff, out=work), out=joint[c])
        joint *= dtype.type(-0.5)
        joint += log_scale[:, None]
        log_likelihood += _normalise(joint, w)
        for c in range(k if moments else 0):
            np.subtract(x, means[c], out=diff)
            sums[c, 0] += joint[c].sum()
            sums[c, 1 : 1 + d] += diff @ joint[c]
            if matrices:
                np.multiply(diff, np.sqrt(joint[c]), out=work)
                sums[c, 1 + d :] += (work @ work.T)[upper]
            else:
                second = np.multiply(diff, diff, out=work) @ joint[c]
                sums[c, 1 + d :] += second if family == "diag" else second.sum()
    return log_likelihood, sums


def _m_step(family: str, sums: Array, centres: Array, reg_covar: float) -> Params:
    """Weights, means and covariances from moments about `centres`: the formulas at the top of this file."""
    k, d = centres.shape
    mass = np.maximum(sums[:, :1], 10 * np.finfo(np.float64).eps)
    weights, shift, second = mass[:, 0] / mass.sum(), sums[:, 1 : 1 + d] / mass, sums[:, 1 + d :] / mass
    if family == "diag":
        return weights, centres + shift, second - shift**2 + reg_covar
    if family == "spherical":
        return weights, centres + shift, (second[:, 0] - (shift**2).sum(axis=1)) / d + reg_covar
    covariances, (i, j) = np.empty((k, d, d)), np.triu_indices(d)
    covariances[:, i, j] = covariances[:, j, i] = second
    covariances += reg_covar * np.eye(d) - shift[:, :, None] * shift[:, None, :]
    return weights, centres + shift, covariances if family == "full" else np.tensordot(weights, covariances, 1)


KERNELS = {"features": (_collect_features, 2048), "centred": (_collect_centred, 4096)}  # with rows to a block


def fit(
    x: Array,
    weights: Array,
    means: Array,
    covariances: Array,
    covariance_type: str,
    n_iter: int,
    reg_covar: float = 1e-6,
    *,
    sample_weight: Array | None = None,
    kernel: str = "auto",
    block_rows: int | None = None,
    n_threads: int = 1,
) -> BaselineResult:
    """Exactly n_iter EM iterations (E then M) from the given parameters, then an E-step without moments.

    x is (N, D), float32 or float64; covariances full (K, D, D), tied (D, D), diag (K, D), spherical (K,).
    n_threads > 1 gives each Python thread a share of the rows: worth it from about D = 16 on (NumPy holds the
    interpreter lock between operations), with BLAS kept to a thread of its own (OPENBLAS_NUM_THREADS=1).
    """
    if covariance_type not in ("full", "tied", "diag", "spherical"):
        raise ValueError(f"unknown covariance_type {covariance_type!r}")
    pivot = np.mean(x, axis=0, dtype=np.float64).astype(x.dtype)
    xt = np.ascontiguousarray((x - pivot).T)
    row_weight = None if sample_weight is None else np.asarray(sample_weight, x.dtype)
    params = (np.float64(weights), np.float64(means) - pivot, np.float64(covariances))
    if covariance_type == "tied" and kernel != "centred":  # T, of which phi knows nothing
        blocks = _blocks(xt, row_weight, 4096)
        scatter = sum(np.float64(b if w is None else b * w) @ np.float64(b).T for b, w in blocks)
    shares = list(_blocks(xt, row_weight, -(-len(x) // n_threads)))
    with ThreadPoolExecutor(n_threads) as pool:
        for iteration in range(n_iter + 1):
            factors = _factorise(covariance_type, *params)
            chosen = _choose(params[1], factors[1], x.dtype) if kernel == "auto" else kernel
            collect, rows = KERNELS[chosen]
            run = partial(collect, covariance_type, params[1], factors, block_rows or rows, iteration < n_iter)
            results = (map if n_threads == 1 else pool.map)(run, *zip(*shares, strict=True))
            log_likelihood, sums = (sum(parts) for parts in zip(*results, strict=True))
            if covariance_type == "tied" and chosen == "features":
                log_likelihood -= 0.5 * float(np.vdot(factors[1][0] @ scatter, factors[1][0]))
                # The M-step adds up the components' second moments, so T may stand with any one of them.
                first = np.arange(len(sums)) == 0
                sums = np.hstack([sums, np.outer(first, scatter[np.triu_indices(len(xt))])])
            if iteration < n_iter:
                # The centred kernel took its differences from means rounded to the dtype of x.
                centres = np.float64(params[1].astype(x.dtype)) * (chosen == "centred")
                params = _m_step(covariance_type, sums, centres, reg_covar)
    weights, means, covariances = (p.astype(x.dtype) for p in (params[0], params[1] + pivot, params[2]))
    return BaselineResult(weights, means, covariances, log_likelihood, n_iter)
