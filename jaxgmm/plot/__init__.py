"""Pictures of mixtures, fits, sweeps and benchmarks, with matplotlib: ``pip install 'jaxgmm[plot]'``.

Every function draws on the axes that it is given, or on new ones of `matplotlib.pyplot`, and returns them. Nothing is
shown and no global setting is changed. A mixture is a `jaxgmm.Model`, a `FitResult`, `GMMParams` or a fitted
`GaussianMixture`, and is drawn in data units; components are numbered as `predict` numbers them, from 0.

>>> from matplotlib.figure import Figure
>>> mixture = jaxgmm.make_params([0.5, 0.5], [[0.0, 0.0], [4.0, 1.0]], [[1.0, 2.0], [1.0, 1.0]], "diag")
>>> ax = ellipses(mixture, ax=Figure().subplots())
>>> [float(patch.get_height()) for patch in ax.patches]
[4.0, 4.0]
"""

from jaxgmm.plot._benchmark import benchmark as benchmark
from jaxgmm.plot._checks import cdf as cdf, qq as qq
from jaxgmm.plot._density import contours as contours, density_1d as density_1d
from jaxgmm.plot._ellipses import ellipses as ellipses
from jaxgmm.plot._film import film as film, frames as frames
from jaxgmm.plot._fits import criteria as criteria, history as history
from jaxgmm.plot._overview import overview as overview
from jaxgmm.plot._pairs import pairs as pairs
from jaxgmm.plot._scatter import scatter as scatter, uncertainty as uncertainty
from jaxgmm.plot._truth import truth as truth

__all__ = [
    "benchmark",
    "cdf",
    "contours",
    "criteria",
    "density_1d",
    "ellipses",
    "film",
    "frames",
    "history",
    "overview",
    "pairs",
    "qq",
    "scatter",
    "truth",
    "uncertainty",
]
