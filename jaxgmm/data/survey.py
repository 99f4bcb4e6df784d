"""One pass over all rows: how many, where they lie, how they vary, and a random sample of them for the starts."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxgmm._checks import check_weights
from jaxgmm._status import DataError
from jaxgmm.data.batches import Batch, Source, batches, weights_of
from jaxgmm.data.rows import CHUNK

_BYTES = 1 << 24
# Rows kept for starts.
SAMPLE_ROWS = 1 << 16
# Of the checksum: an odd factor, and what tells the numbers of rows from those of columns.
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_ROWS, _COLUMNS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x94D049BB133111EB)

Gather = Callable[[Sequence[np.ndarray]], list[list[np.ndarray]]]


@dataclass(frozen=True, eq=False)
class Survey:
    """What one pass shows, in data units and float64.

    n_samples N, n_used rows of positive weight, weight_sum Σ v_n; mean (D) and covariance (D, D), both weighted; reach
    (D), the largest deviation from the mean of a row that counts, 0 for columns that do not vary. sample (M, D) rows in
    their order with weights (M): all rows if there are few, else drawn in proportion to their weights, weighing alike.
    checksum: of the bits of all numbers and of their places, modulo 2^64.
    """

    n_samples: int
    n_used: int
    weight_sum: float
    mean: np.ndarray
    covariance: np.ndarray
    reach: np.ndarray
    sample: np.ndarray
    sample_weight: np.ndarray
    checksum: int

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that tell data apart, however many processes went through them."""
        digest = hashlib.sha256(f"{self.n_samples} {self.n_used} {self.checksum}".encode())
        digest.update(np.ascontiguousarray(self.sample).tobytes())
        return digest.hexdigest()[:16]


def _scattered(words: np.ndarray) -> np.ndarray:
    """Words of 64 bits, each of which has come to many places, one to one: a round of SplitMix64 (Steele et al. 2014).

    A product modulo 2^64 alone carries no bit downward, and round numbers differ in the uppermost ones only.
    """
    words = words ^ (words >> np.uint64(32))
    words *= _MIX
    words ^= words >> np.uint64(29)
    return words


def _bits(array: np.ndarray) -> np.ndarray:
    """The bits of floating-point numbers, scattered."""
    whole = np.ascontiguousarray(array).view(np.dtype(f"u{array.dtype.itemsize}"))
    return _scattered(whole.astype(np.uint64, copy=False))


def _factors(numbers: np.ndarray, salt: np.uint64) -> np.ndarray:
    """An odd factor for every row or column by its number, far from any law."""
    return _scattered(_scattered(numbers.astype(np.uint64) + salt)) | np.uint64(1)


class _Moments:
    """Weighted mean, less the first row, and scatter of the rows so far (Chan, Golub and LeVeque 1983).

    Differences from a row are exact where the rows are close to each other and far from 0.
    """

    def __init__(self, n_features: int, first: int = 0) -> None:
        # heaviest: the largest weight, as it was given. seen: the number of the next row among all.
        self.weight, self.checksum, self.heaviest, self.seen = 0.0, np.uint64(0), 0.0, first
        self.columns = _factors(np.arange(n_features + 1), _COLUMNS)
        self.mean = np.zeros(n_features)
        self.scatter = np.zeros((n_features, n_features))
        self.first: np.ndarray | None = None
        self.still = np.ones(n_features, bool)
        self.low = np.full(n_features, np.inf)
        self.high = np.full(n_features, -np.inf)

    def arrays(self) -> list[np.ndarray]:
        """All of it, as arrays to be sent: see `join`."""
        n_features = len(self.mean)
        first = np.full(n_features, np.nan) if self.first is None else self.first
        totals = [np.array([self.weight]), np.array([self.checksum]), np.array([self.heaviest])]
        return [*totals, self.mean, self.scatter, first, self.still, self.low, self.high]

    def join(self, others: list[np.ndarray]) -> None:
        """Add what another one has seen, from its `arrays`."""
        weight, checksum, heaviest, mean, scatter, first, still, low, high = others
        self.checksum = self.checksum + checksum[0]
        self.heaviest = max(self.heaviest, float(heaviest[0]))
        if not weight[0]:
            return
        if self.first is None:
            self.first = first
        self.still &= still & (first == self.first)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self._merge(float(weight[0]), mean + (first - self.first), scatter)

    def add(self, x: np.ndarray, weight: np.ndarray) -> None:
        # A sum of whole numbers: it does not matter in what pieces, or processes, the rows come.
        places = _factors(np.arange(self.seen, self.seen + len(x)), _ROWS)
        words = _bits(x) @ self.columns[:-1] + _bits(weight) * self.columns[-1]
        self.checksum = self.checksum + places @ words
        self.seen += len(x)
        used = weight > 0
        if not used.all():
            x, weight = x[used], weight[used]
        if not len(x):
            return
        if self.first is None:
            self.first = x[0].astype(np.float64)
        self.still &= np.all(x == self.first, axis=0)
        self.low, self.high = np.minimum(self.low, x.min(axis=0)), np.maximum(self.high, x.max(axis=0))
        rows = np.ascontiguousarray(x, np.float64) - self.first
        share = weight.astype(np.float64)
        total = float(share.sum())
        mean = share @ rows / total
        rows = rows - mean
        scatter = (share[:, None] * rows).T @ rows
        self._merge(total, mean, scatter)

    def _merge(self, weight: float, mean: np.ndarray, scatter: np.ndarray) -> None:
        everything = self.weight + weight
        gap = mean - self.mean
        self.scatter += scatter + np.outer(gap, gap) * (self.weight * weight / everything)
        self.mean += gap * (weight / everything)
        self.weight = everything


class _Reservoir:
    """The `size` rows with the largest keys ln(u) / v, u uniform: a sample in proportion to weight v.

    Efraimidis and Spirakis (2006). Every row has its own place in one stream of random numbers, so that the sample does
    not depend on how the rows come.
    """

    def __init__(self, size: int, n_features: int, dtype: np.dtype, seed: int, first: int = 0) -> None:
        # A step of the generator gives four numbers.
        steps, rest = divmod(first, 4)
        self.size, self.random = size, np.random.Generator(np.random.Philox(seed).advance(steps))
        self.random.random(rest)
        self.rows, self.weight = np.empty((0, n_features), dtype), np.empty(0)
        self.keys, self.number = np.empty(0), np.empty(0, np.int64)
        self.seen = first

    def arrays(self) -> list[np.ndarray]:
        """The rows kept, their weights, keys and numbers."""
        return [self.rows, self.weight, self.keys, self.number]

    def join(self, others: list[np.ndarray]) -> None:
        """Add what another one has kept, from its `arrays`."""
        self._take(*others)

    def add(self, x: np.ndarray, weight: np.ndarray) -> None:
        with np.errstate(divide="ignore"):
            keys = np.log1p(-self.random.random(len(x))) / weight
        number = self.seen + np.arange(len(x))
        self.seen += len(x)
        if len(self.keys) == self.size:
            better = np.flatnonzero(keys > self.keys.min())
            x, weight, keys, number = x[better], weight[better], keys[better], number[better]
        if len(x):
            self._take(x, weight, keys, number)

    def _take(self, x: np.ndarray, weight: np.ndarray, keys: np.ndarray, number: np.ndarray) -> None:
        self.rows, self.weight = np.concatenate([self.rows, x]), np.concatenate([self.weight, weight])
        self.keys, self.number = np.concatenate([self.keys, keys]), np.concatenate([self.number, number])
        if len(self.keys) > self.size:
            kept = np.argpartition(self.keys, -self.size)[-self.size :]
            self.rows, self.weight = self.rows[kept], self.weight[kept]
            self.keys, self.number = self.keys[kept], self.number[kept]

    def sample(self, n_samples: int, n_used: int, weight_sum: float) -> tuple[np.ndarray, np.ndarray]:
        """The rows in their order, and their weights; of how many, how many that count, and their weight in all."""
        order = np.argsort(self.number)
        rows, weight = self.rows[order], self.weight[order]
        if n_samples <= self.size:
            return rows, weight
        rows, weight = rows[weight > 0], weight[weight > 0]
        return rows, weight if n_used <= self.size else np.full(len(rows), weight_sum / len(rows))


@np.errstate(over="ignore", invalid="ignore")  # differences of the largest numbers are infinite, and stop EM as such
def survey(
    source: Source, seed: int = 0, first: int = 0, gather: Gather | None = None, *, weighted: bool = True
) -> Survey:
    """Go through `source` once. `DataError` names the place of what is not finite. seed: of the sample.

    weighted: otherwise all rows count alike.

    Where several processes have a part of the rows each, first: the number of the first row of this one among all, and
    gather: from arrays to those of every process. The survey is then that of all rows, and the same everywhere.
    """
    # Whole chunks, so that no bit depends on how the rows come.
    size = CHUNK * max(1, _BYTES // (CHUNK * source.n_features * source.dtype.itemsize))
    how = (source.n_features, source.dtype, seed)
    moments, reservoir = _Moments(source.n_features, first), _Reservoir(SAMPLE_ROWS, *how, first)
    n_samples = n_used = 0
    for batch in batches(source, size):
        check_finite(batch, source, n_samples)
        weight = weights_of(batch if weighted else Batch(batch.x, None), source.dtype)
        moments.heaviest = max(moments.heaviest, 1.0 if batch.weight is None else float(np.max(batch.weight)))
        for start in range(0, len(batch.x), CHUNK):
            rows, share = batch.x[start : start + CHUNK], weight[start : start + CHUNK]
            moments.add(rows, share)
            reservoir.add(rows, share)
        n_samples, n_used = n_samples + len(batch.x), n_used + int(np.count_nonzero(weight))
    if gather is not None:
        sent = [moments.arrays(), reservoir.arrays(), [np.array([n_samples, n_used])]]
        moments, reservoir, n_samples, n_used = _Moments(source.n_features), _Reservoir(SAMPLE_ROWS, *how), 0, 0
        # Together in one message.
        for theirs in gather(list(itertools.chain(*sent))):
            arrays = iter(theirs)
            seen, kept, [counts] = (list(itertools.islice(arrays, len(part))) for part in sent)
            moments.join(seen)
            reservoir.join(kept)
            n_samples, n_used = n_samples + int(counts[0]), n_used + int(counts[1])
    if not n_samples:
        raise DataError("E208", f"{source.name} gives no rows", "give at least one")
    heaviest = moments.heaviest
    if not heaviest:
        raise DataError("E222", f"the weights of {source.name} are zero for every row", "at least one row must count")
    check_weights(np.array([heaviest]), 1, source.dtype)
    if moments.weight > float(np.finfo(source.dtype).max):
        found = f"the weights of {source.name} sum up to {moments.weight:g}, which {source.dtype} cannot hold"
        raise DataError("E223", found, "divide the weights by their mean")
    assert moments.first is not None
    still = moments.still
    # Rounding may have moved the mean of a constant column.
    mean = moments.first + np.where(still, 0.0, moments.mean)
    varying = np.where(still, 0.0, 1.0)
    sample, sample_weight = reservoir.sample(n_samples, n_used, moments.weight)
    return Survey(
        n_samples=n_samples,
        n_used=n_used,
        weight_sum=moments.weight,
        mean=mean,
        covariance=moments.scatter / moments.weight * np.outer(varying, varying),
        reach=np.where(still, 0.0, np.maximum(moments.high - mean, mean - moments.low)),
        sample=sample,
        sample_weight=sample_weight,
        checksum=int(moments.checksum),
    )


def check_finite(batch: Batch, source: Source, before: int) -> None:
    """Refuse NaN, infinity and negative weights with their place; before: how many rows of the source came earlier."""
    for values, what in ((batch.x, "contains"), (batch.weight, "has the weight")):
        if values is None or np.isfinite(np.sum(values)):
            continue
        bad = np.argwhere(~np.isfinite(values))
        if not len(bad):
            continue
        row = int(bad[0][0])
        found = "NaN" if np.isnan(values[tuple(bad[0])]) else "infinity"
        column = ""
        if values.ndim > 1:
            number = int(bad[0][1])
            column = f", column {number}" + ("" if source.columns is None else f" ({source.columns[number]!r})")
        raise DataError("E203", f"{source.place(before + row)}{column} {what} {found}", "drop or impute such rows")
    if batch.weight is not None and np.min(batch.weight) < 0:
        row = int(np.argmin(batch.weight))
        found = f"{source.place(before + row)} has the weight {batch.weight[row]:g}"
        raise DataError("E221", found, "weights must be at least 0")
