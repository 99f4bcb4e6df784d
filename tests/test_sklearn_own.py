"""scikit-learn's own tests of its mixture, run on ours: they follow the installed version, nothing is copied.

Left out are the tests that call scikit-learn's private functions or methods, and those of its array-API dispatch.
"""

import inspect

import numpy as np
import pytest
from sklearn.mixture.tests import test_gaussian_mixture as theirs

from jaxgmm import GaussianMixture

PRIVATE = {
    "test_suffstat_sk_full",
    "test_suffstat_sk_tied",
    "test_suffstat_sk_diag",
    "test_gaussian_suffstat_sk_spherical",
    "test_compute_log_det_cholesky",
    "test_gaussian_mixture_log_probabilities",
    "test_gaussian_mixture_precisions_init",
    "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters",
    "test_gaussian_mixture_array_api_compliance",
    "test_gaussian_mixture_raises_where_array_api_not_implemented",
}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def global_random_seed():
    """The seed that scikit-learn's suite uses by default."""
    return 42


@pytest.fixture(params=[np.float32, np.float64])
def global_dtype(request):
    """Both precisions, as scikit-learn's suite runs them."""
    return request.param


@pytest.fixture(autouse=True)
def _our_class(monkeypatch):
    monkeypatch.setattr(theirs, "GaussianMixture", GaussianMixture)


for _name, _test in inspect.getmembers(theirs, inspect.isfunction):
    if _name.startswith("test_") and _name not in PRIVATE:
        globals()[_name] = _test
