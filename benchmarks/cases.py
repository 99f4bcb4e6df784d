"""The cases: a size, a task and what jaxgmm has to reach in it. Every case has a name that runs and reports share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType

FEW = MappingProxyType({"gmmx": 3.0, "pomegranate": 3.0})


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    task: which function of a contestant runs (`em`, `restarts`, `sweep`, ...). n_samples N, n_features D and
    n_components K; for `many`, n_samples counts data sets. n_iter: EM iterations of the timed calls; with two
    counts the figure is the time for one iteration, (t(n2) - t(n1)) / (n2 - n1), which is free of set-up; with
    one or none it is the time of the whole call. reg_covar is 0 where a contestant cannot add anything.
    targets: contestant -> how many times faster than it jaxgmm has to be. limit: the largest figure allowed.
    series: the size that a scaling plot has on its axis.
    """

    name: str
    n_samples: int = 0
    n_features: int = 0
    n_components: int = 0
    covariance_type: str = "full"
    dtype: str = "float64"
    task: str = "em"
    n_restarts: int = 1
    n_iter: tuple[int, ...] = (2, 12)
    reg_covar: float = 0.0
    seed: int = 0
    targets: Mapping[str, float] = field(default_factory=dict)
    limit: float | None = None
    series: str = ""

    @property
    def figure(self) -> str:
        """The name of the number that is compared, which is also its unit."""
        if self.task == "memory":
            return "megabytes"
        return "ms_per_iteration" if len(self.n_iter) == 2 else "seconds"

    @property
    def size(self) -> str:
        """The sizes in words."""
        if not self.n_samples:
            return ""
        rows = f"{self.n_samples:,}{' sets of 30 to 500' if self.task == 'many' else ''} x {self.n_features}"
        components = f"K {'1 to ' if self.task == 'sweep' else ''}{self.n_components}"
        restarts = f", {self.n_restarts} restarts" if self.n_restarts > 1 else ""
        return f"{rows}, {components}{restarts}, {self.covariance_type}, {self.dtype}"

    @property
    def flops(self) -> float:
        """Useful work of one EM iteration: the quadratic features times K, once for densities, once for moments.

        2 N K D (D + 1) for full covariances. The N K exponentials of an iteration are not counted.
        """
        d = self.n_features
        features = d * (d + 1) / 2 if self.covariance_type in ("full", "tied") else d
        return 4.0 * self.n_samples * self.n_components * features * self.n_restarts


def _short(n: int) -> str:
    """50000 -> 50k, 2000000 -> 2m."""
    for unit, size in (("m", 1_000_000), ("k", 1_000)):
        if n % size == 0 and n:
            return f"{n // size}{unit}"
    return str(n)


def _em(prefix: str, n: int, d: int, k: int, **rest: object) -> Case:
    family = str(rest.get("covariance_type", "full"))
    return Case(f"{prefix}{family}-{_short(n)}-{d}-{k}", n, d, k, **rest)  # type: ignore[arg-type]


def _series(axis: str, values: Iterable[int], prefix: str = "scale", **base: object) -> list[Case]:
    """The same case with one size running over `values`."""
    return [Case(f"{prefix}-{axis}-{_short(v)}", **(base | {axis: v}), series=axis) for v in values]  # type: ignore[arg-type]


_QUICK = [
    _em("quick-", 20_000, 2, 4),
    _em("quick-", 20_000, 8, 8),
    _em("quick-", 20_000, 8, 8, covariance_type="diag"),
    _em("quick-", 10_000, 16, 16),
]

_TARGETS = [
    _em("", 100_000, 8, 8, targets={"scikit-learn": 15.0, **FEW}),
    _em("", 100_000, 16, 16, targets={"scikit-learn": 12.0, **FEW}),
    _em("", 50_000, 32, 32, targets={"scikit-learn": 6.0, **FEW}, n_iter=(2, 7)),
    _em("", 20_000, 64, 32, targets={"scikit-learn": 3.0, **FEW}, n_iter=(2, 7)),
    _em("", 200_000, 16, 32, covariance_type="diag", targets={"scikit-learn": 7.0, **FEW}),
    _em("", 100_000, 64, 64, covariance_type="diag", targets={"scikit-learn": 3.5, **FEW}, n_iter=(2, 7)),
    Case(
        "restarts-32",
        20_000,
        8,
        8,
        task="restarts",
        n_restarts=32,
        n_iter=(20,),
        reg_covar=1e-6,
        targets={"scikit-learn": 50.0},
    ),
    Case(
        "sweep-cube",
        3_500,
        3,
        10,
        task="sweep",
        n_restarts=16,
        n_iter=(),
        reg_covar=1e-6,
        targets={"scikit-learn": 100.0},
    ),
    Case("many-10k", 10_000, 2, 2, task="many", n_iter=(), reg_covar=1e-6, targets={"scikit-learn": 100.0}),
    Case("predict-proba-1m", 1_000_000, 8, 16, task="predict_proba", n_iter=(), targets={"scikit-learn": 8.0}),
    Case("score-samples-1m", 1_000_000, 8, 16, task="score_samples", n_iter=(), targets={"scikit-learn": 8.0}),
    Case("kmeans-100k-16-32", 100_000, 16, 32, task="kmeans", n_iter=(), targets={"scikit-learn": 1.0}),
    Case("memory-2m-8-64", 2_000_000, 8, 64, task="memory", n_iter=(3,), limit=300.0),
    Case("process-help", task="process", n_iter=(), limit=0.15),
    Case("process-shell-fit", task="process", n_iter=(), limit=2.0),
    Case("process-python-fit", task="process", n_iter=(), limit=2.0),
]

_SCALE = [
    *_series("n_samples", (1_000, 10_000, 100_000, 1_000_000), n_features=8, n_components=8),
    *_series("n_features", (2, 4, 8, 16, 32, 64), n_samples=20_000, n_components=8),
    *_series("n_components", (2, 4, 8, 16, 32, 64, 128), n_samples=20_000, n_features=8),
    *_series(
        "n_restarts",
        (1, 2, 4, 8, 16, 32, 64),
        task="restarts",
        n_samples=5_000,
        n_features=8,
        n_components=8,
        reg_covar=1e-6,
        n_iter=(20,),
    ),
]

_GPU = [
    case
    for dtype, name in (("float32", "gpu-f32-"), ("float64", "gpu-f64-"))
    for case in (
        _em(name, 100_000, 8, 8, dtype=dtype),
        _em(name, 100_000, 16, 16, dtype=dtype),
        _em(name, 1_000_000, 8, 16, dtype=dtype),
        _em(name, 1_000_000, 32, 64, dtype=dtype),
        _em(name, 1_000_000, 64, 256, dtype=dtype),
        _em(name, 10_000_000, 8, 64, dtype=dtype),
        _em(name, 10_000_000, 64, 256, dtype=dtype, n_iter=(1, 4)),
        _em(name, 1_000_000, 64, 64, dtype=dtype, covariance_type="diag"),
        *_series(
            "n_restarts",
            (1, 4, 16, 64, 256),
            prefix=f"{name}scale",
            dtype=dtype,
            task="restarts",
            n_samples=20_000,
            n_features=8,
            n_components=8,
            reg_covar=1e-6,
            n_iter=(20,),
        ),
        *_series(
            "n_samples",
            (10_000, 100_000, 1_000_000, 10_000_000),
            prefix=f"{name}scale",
            dtype=dtype,
            n_features=16,
            n_components=16,
        ),
        *_series(
            "n_features",
            (4, 8, 16, 32, 64),
            prefix=f"{name}scale",
            dtype=dtype,
            n_samples=200_000,
            n_components=16,
        ),
        *_series(
            "n_components",
            (4, 16, 64, 256),
            prefix=f"{name}scale",
            dtype=dtype,
            n_samples=200_000,
            n_features=16,
        ),
    )
]

CASES = {case.name: case for case in (*_QUICK, *_TARGETS, *_SCALE, *_GPU)}


def select(patterns: Iterable[str]) -> list[Case]:
    """The cases whose names match any pattern (``full-*``), each once, in the order of `CASES`."""
    patterns = list(patterns)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in CASES):
            raise ValueError(f"no case is called {pattern!r}; python -m benchmarks.run --list shows them all")
    return [case for name, case in CASES.items() if any(fnmatchcase(name, p) for p in patterns)]
