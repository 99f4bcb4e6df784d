"""A slow Gaussian mixture to judge a fast one by: float64, plain loops over rows and components.

Nothing here is clever, and nothing is shared with the package under test: densities go through `slogdet` and
`solve` of the whole D x D matrix (no Cholesky factor), a sum is a loop, a criterion is its definition.

Shapes: x (N, D), weights (K,), means (K, D), resp (N, K), sample_weight (N,) >= 0; covariances by their type:

    full (K, D, D)   tied (D, D)   diag (K, D)   spherical (K,)   tied_diag (D,)   tied_spherical ()

A row of weight zero is skipped, whatever it holds. There are no floors: a component without mass is an error.
Labels are integers. Criteria are smaller-is-better.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical", "tied_diag", "tied_spherical")


def to_full(covariances: Array, covariance_type: str, n_components: int, n_features: int) -> Array:
    """The K matrices of shape (D, D) that a family's short form stands for."""
    covariances = np.asarray(covariances, dtype=np.float64)
    full = np.zeros((n_components, n_features, n_features))
    for k in range(n_components):
        for i in range(n_features):
            for j in range(n_features):
                if covariance_type == "full":
                    full[k, i, j] = covariances[k, i, j]
                elif covariance_type == "tied":
                    full[k, i, j] = covariances[i, j]
                elif i != j:
                    full[k, i, j] = 0.0
                elif covariance_type == "diag":
                    full[k, i, j] = covariances[k, i]
                elif covariance_type == "spherical":
                    full[k, i, j] = covariances[k]
                elif covariance_type == "tied_diag":
                    full[k, i, j] = covariances[i]
                elif covariance_type == "tied_spherical":
                    full[k, i, j] = covariances[()]
                else:
                    raise ValueError(f"unknown covariance_type {covariance_type!r}")
    return full


def log_sum_exp(values: Array) -> float:
    """log sum_k exp(v_k), with the largest term taken out so that nothing overflows."""
    largest = max(float(v) for v in values)
    if largest == -math.inf:
        return -math.inf
    return largest + math.log(sum(math.exp(float(v) - largest) for v in values))


def component_log_prob(x: Array, means: Array, covariances: Array, covariance_type: str) -> Array:
    """log N(x_n | mu_k, Sigma_k), shape (N, K), without the mixing weights."""
    x, means = np.asarray(x, dtype=np.float64), np.asarray(means, dtype=np.float64)
    (n_rows, n_features), n_components = x.shape, means.shape[0]
    full = to_full(covariances, covariance_type, n_components, n_features)
    out = np.zeros((n_rows, n_components))
    for k in range(n_components):
        sign, log_det = np.linalg.slogdet(full[k])
        if sign <= 0:
            raise np.linalg.LinAlgError(f"the covariance of component {k} is not positive definite")
        for n in range(n_rows):
            diff = x[n] - means[k]
            mahalanobis = float(diff @ np.linalg.solve(full[k], diff))
            out[n, k] = -0.5 * (n_features * math.log(2.0 * math.pi) + log_det + mahalanobis)
    return out


def _joint(x: Array, weights: Array, means: Array, covariances: Array, covariance_type: str) -> Array:
    """log(pi_k) + log N(x_n | mu_k, Sigma_k); a weight of zero gives -inf."""
    joint = component_log_prob(x, means, covariances, covariance_type)
    weights = np.asarray(weights, dtype=np.float64)
    for n in range(joint.shape[0]):
        for k in range(joint.shape[1]):
            joint[n, k] += math.log(weights[k]) if weights[k] > 0 else -math.inf
    return joint


def log_prob(x: Array, weights: Array, means: Array, covariances: Array, covariance_type: str) -> Array:
    """log p(x_n) = log sum_k pi_k N(x_n | mu_k, Sigma_k), shape (N,)."""
    joint = _joint(x, weights, means, covariances, covariance_type)
    return np.array([log_sum_exp(row) for row in joint])


def responsibilities(
    x: Array, weights: Array, means: Array, covariances: Array, covariance_type: str
) -> Array:
    """Posterior membership z_nk = pi_k N(x_n | k) / p(x_n), shape (N, K)."""
    return e_step(x, weights, means, covariances, covariance_type)[0]


def e_step(
    x: Array, weights: Array, means: Array, covariances: Array, covariance_type: str,
    sample_weight: Array | None = None,
) -> tuple[Array, float]:
    """Responsibilities (N, K), not multiplied by the row weights, and sum_n w_n log p(x_n)."""
    joint = _joint(x, weights, means, covariances, covariance_type)
    row_weight = _row_weights(len(joint), sample_weight)
    resp = np.zeros(joint.shape)
    total = 0.0
    for n in range(joint.shape[0]):
        row_log_prob = log_sum_exp(joint[n])
        for k in range(joint.shape[1]):
            resp[n, k] = math.exp(joint[n, k] - row_log_prob)
        if row_weight[n] > 0:
            total += float(row_weight[n]) * row_log_prob
    return resp, total


def _row_weights(n_rows: int, sample_weight: Array | None) -> Array:
    return np.ones(n_rows) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)


def m_step(
    x: Array, resp: Array, covariance_type: str, reg_covar: float = 0.0, sample_weight: Array | None = None
) -> tuple[Array, Array, Array]:
    """Weighted maximum-likelihood weights, means, covariances; reg_covar is added to every diagonal.

    With m_nk = w_n z_nk, M_k = sum_n m_nk and S_k = sum_n m_nk (x_n - mu_k)(x_n - mu_k)^T:
    full S_k / M_k, tied sum_k S_k / sum_k M_k; diag and tied_diag keep the diagonals of these, spherical and
    tied_spherical the mean of the diagonals.
    """
    x, resp = np.asarray(x, dtype=np.float64), np.asarray(resp, dtype=np.float64)
    (n_rows, n_features), n_components = x.shape, resp.shape[1]
    row_weight = _row_weights(n_rows, sample_weight)
    mass = np.zeros(n_components)
    means = np.zeros((n_components, n_features))
    scatter = np.zeros((n_components, n_features, n_features))
    for k in range(n_components):
        for n in range(n_rows):
            if row_weight[n] > 0:
                mass[k] += row_weight[n] * resp[n, k]
                means[k] += row_weight[n] * resp[n, k] * x[n]
        if mass[k] <= 0:
            raise ValueError(f"component {k} has no mass")
        means[k] /= mass[k]
        for n in range(n_rows):  # a second pass, about the new mean: no difference of large squares
            if row_weight[n] > 0:
                diff = x[n] - means[k]
                scatter[k] += row_weight[n] * resp[n, k] * np.outer(diff, diff)
    total = float(sum(mass))

    own = np.array([scatter[k] / mass[k] + reg_covar * np.eye(n_features) for k in range(n_components)])
    shared = sum(scatter[k] for k in range(n_components)) / total + reg_covar * np.eye(n_features)
    own_diag = np.array([[own[k, i, i] for i in range(n_features)] for k in range(n_components)])
    shared_diag = np.array([shared[i, i] for i in range(n_features)])
    covariances = {
        "full": own,
        "tied": shared,
        "diag": own_diag,
        "spherical": np.array([sum(own_diag[k]) / n_features for k in range(n_components)]),
        "tied_diag": shared_diag,
        "tied_spherical": np.array(sum(shared_diag) / n_features),
    }[covariance_type]
    return mass / total, means, covariances


def fit(
    x: Array, weights: Array, means: Array, covariances: Array, covariance_type: str, n_iter: int,
    reg_covar: float = 0.0, sample_weight: Array | None = None,
) -> tuple[tuple[Array, Array, Array], list[float]]:
    """n_iter EM iterations from the given parameters, ending on an E-step.

    Returns the parameters after n_iter M-steps, and n_iter + 1 log-likelihoods: entry i belongs
    to the parameters after i M-steps, so entry 0 is the start's and the last is that of what is returned.
    """
    params = (np.asarray(weights, dtype=np.float64), np.asarray(means), np.asarray(covariances))
    resp, log_likelihood = e_step(x, *params, covariance_type, sample_weight)
    history = [log_likelihood]
    for _ in range(n_iter):
        params = m_step(x, resp, covariance_type, reg_covar, sample_weight)
        resp, log_likelihood = e_step(x, *params, covariance_type, sample_weight)
        history.append(log_likelihood)
    return params, history


def n_parameters(covariance_type: str, n_components: int, n_features: int) -> int:
    """Free parameters, counted one by one: K - 1 weights, K D means, and the distinct covariance entries."""
    count = n_components - 1
    for _ in range(n_components):
        count += n_features
    matrices = 1 if covariance_type.startswith("tied") else n_components
    for _ in range(matrices):
        if covariance_type in ("spherical", "tied_spherical"):
            count += 1
            continue
        for i in range(n_features):
            for j in range(i + 1):
                if i == j or covariance_type in ("full", "tied"):
                    count += 1
    return count


def aic(
    x: Array, weights: Array, means: Array, covariances: Array, covariance_type: str,
    sample_weight: Array | None = None, n_params: int | None = None,
) -> float:
    """-2 log-likelihood + 2 p; smaller is better. `n_params` overrides the family's own count p."""
    p = n_parameters(covariance_type, *np.shape(means)) if n_params is None else n_params
    return -2.0 * e_step(x, weights, means, covariances, covariance_type, sample_weight)[1] + 2.0 * p


def bic(
    x: Array, weights: Array, means: Array, covariances: Array, covariance_type: str,
    sample_weight: Array | None = None, n_params: int | None = None,
) -> float:
    """-2 log-likelihood + p log n; n is the number of rows, or the sum of the weights where there are any."""
    p = n_parameters(covariance_type, *np.shape(means)) if n_params is None else n_params
    n = float(sum(_row_weights(len(x), sample_weight)))
    return -2.0 * e_step(x, weights, means, covariances, covariance_type, sample_weight)[1] + p * math.log(n)


def icl(
    x: Array, weights: Array, means: Array, covariances: Array, covariance_type: str,
    sample_weight: Array | None = None, n_params: int | None = None,
) -> float:
    """BIC - 2 sum_n w_n log max_k z_nk: mclust's ICL with the sign reversed, so never below the BIC."""
    resp, _ = e_step(x, weights, means, covariances, covariance_type, sample_weight)
    row_weight = _row_weights(len(x), sample_weight)
    doubt = sum(float(row_weight[n]) * math.log(max(resp[n])) for n in range(len(resp)) if row_weight[n] > 0)
    return bic(x, weights, means, covariances, covariance_type, sample_weight, n_params) - 2.0 * doubt


def silhouette(x: Array, labels: Array) -> float:
    """Mean over rows of (b - a) / max(a, b); a row alone in its cluster counts 0,
    and so does one that coincides with everything.

    a: mean distance to the other rows of its cluster; b: smallest mean distance to another cluster's rows.
    """
    x, labels = np.asarray(x, dtype=np.float64), np.asarray(labels)
    clusters = sorted(set(labels.tolist()))
    total = 0.0
    for n in range(len(x)):
        distance = dict.fromkeys(clusters, 0.0)
        count = dict.fromkeys(clusters, 0)
        for m in range(len(x)):
            if m != n:
                distance[labels[m].item()] += math.dist(x[n], x[m])
                count[labels[m].item()] += 1
        own = labels[n].item()
        if count[own] == 0:
            continue
        a = distance[own] / count[own]
        b = min(distance[c] / count[c] for c in clusters if c != own)
        total += (b - a) / max(a, b) if max(a, b) > 0 else 0.0
    return total / len(x)


def adjusted_rand(a: Array, b: Array) -> float:
    """Adjusted Rand index by looking at every pair of rows: 1 for equal partitions, about 0 by chance."""
    both = only_a = only_b = neither = 0
    for n in range(len(a)):
        for m in range(n):
            together_a, together_b = a[n] == a[m], b[n] == b[m]
            both += bool(together_a and together_b)
            only_a += bool(together_a and not together_b)
            only_b += bool(together_b and not together_a)
            neither += bool(not together_a and not together_b)
    scale = (both + only_a) * (only_a + neither) + (both + only_b) * (only_b + neither)
    return 1.0 if scale == 0 else 2.0 * (both * neither - only_a * only_b) / scale


def best_relabelled_accuracy(truth: Array, pred: Array) -> float:
    """Largest share of rows where `pred` agrees with `truth`, over all one-to-one renamings."""
    truth_names, pred_names = sorted(set(np.asarray(truth).tolist())), sorted(set(np.asarray(pred).tolist()))
    size = max(len(truth_names), len(pred_names))  # the shorter list gets names that match nothing
    table = np.zeros((size, size), dtype=int)
    for t, p in zip(np.asarray(truth).tolist(), np.asarray(pred).tolist(), strict=True):
        table[pred_names.index(p), truth_names.index(t)] += 1

    def most(row: int, free: list[int]) -> int:
        if row == size:
            return 0
        return max(int(table[row, c]) + most(row + 1, [f for f in free if f != c]) for c in free)

    return most(0, list(range(size))) / len(truth)
