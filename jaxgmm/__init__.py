"""Gaussian mixture models by EM in JAX.

Functions on pytrees: `fit`, `sweep`, `fit_many`, `fit_gradient`, `fit_stepwise`, `e_step`, `m_step`, `em_step`,
`log_prob`, `responsibilities`, `predict`, `sample`. Rows in files: `scan_table`. A scikit-learn drop-in:
`GaussianMixture`. Files: `save`, `load`. Shell: ``jaxgmm --help``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# It watches for forks from here on.
importlib.import_module("jaxgmm._fork")

# Public name -> the module it lives in. Loaded on first use, so that `jaxgmm --help` need not wait for JAX.
_HOME = {
    "fit": "api",
    "sweep": "api",
    "fit_gradient": "gradient",
    "fit_stepwise": "scale.stepwise",
    "StepwiseResult": "scale.stepwise",
    "scan_table": "data.scan",
    "CRITERIA": "api",
    "fit_many": "many",
    "ManyResult": "many",
    "FitResult": "em.result",
    "SweepResult": "em.result",
    "EMOptions": "_options",
    "EMState": "em.loop",
    "run_em": "em.loop",
    "GMMParams": "params",
    "Prior": "prior",
    "default_prior": "prior",
    "Diagnosis": "em.diagnosis",
    "SuffStats": "stats",
    "FreeParams": "unconstrained",
    "constrain": "unconstrained",
    "unconstrain": "unconstrained",
    "COVARIANCE_TYPES": "covariance",
    "INIT_METHODS": "init",
    "make_params": "init.given",
    "params_from_labels": "init.given",
    "params_from_means": "init.given",
    "params_from_responsibilities": "init.given",
    "component_log_prob": "functional",
    "e_step": "functional",
    "em_step": "functional",
    "log_prob": "functional",
    "log_responsibilities": "functional",
    "m_step": "functional",
    "orthant_counts": "functional",
    "predict": "functional",
    "responsibilities": "functional",
    "sample": "functional",
    "score": "functional",
    "silhouette": "functional",
    "uncertainty": "functional",
    "aic": "criteria",
    "bic": "criteria",
    "icl": "criteria",
    "n_parameters": "criteria",
    "accuracy_up_to_relabelling": "compare",
    "adjusted_rand_index": "compare",
    "agreement": "compare",
    "misclassification_rate": "compare",
    "match_components": "compare",
    "Model": "model",
    "GaussianMixture": "estimators",
    "from_sklearn": "interop",
    "to_sklearn": "interop",
    "load": "io",
    "save": "io",
    "ConvergenceWarning": "_status",
    "DataError": "_status",
    "FitError": "_status",
    "JaxgmmError": "_status",
    "Status": "_status",
    "UsageError": "_status",
}

# Public modules that are used by their own name, as in ``jaxgmm.data.make_cube()``.
_SUBMODULES = ("data", "plot")

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("jaxgmm")
    if name in _SUBMODULES:
        return importlib.import_module(f"jaxgmm.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'jaxgmm' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"jaxgmm.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    __version__: str
    from jaxgmm._options import EMOptions as EMOptions
    from jaxgmm._status import (
        ConvergenceWarning as ConvergenceWarning,
        DataError as DataError,
        FitError as FitError,
        JaxgmmError as JaxgmmError,
        Status as Status,
        UsageError as UsageError,
    )
    from jaxgmm.api import CRITERIA as CRITERIA, fit as fit, sweep as sweep
    from jaxgmm.compare import (
        accuracy_up_to_relabelling as accuracy_up_to_relabelling,
        adjusted_rand_index as adjusted_rand_index,
        agreement as agreement,
        match_components as match_components,
        misclassification_rate as misclassification_rate,
    )
    from jaxgmm.covariance import COVARIANCE_TYPES as COVARIANCE_TYPES
    from jaxgmm.criteria import aic as aic, bic as bic, icl as icl, n_parameters as n_parameters
    from jaxgmm.data.scan import scan_table as scan_table
    from jaxgmm.em.loop import EMState as EMState, run_em as run_em
    from jaxgmm.em.result import FitResult as FitResult, SweepResult as SweepResult
    from jaxgmm.estimators import GaussianMixture as GaussianMixture
    from jaxgmm.functional import (
        component_log_prob as component_log_prob,
        e_step as e_step,
        em_step as em_step,
        log_prob as log_prob,
        log_responsibilities as log_responsibilities,
        m_step as m_step,
        orthant_counts as orthant_counts,
        predict as predict,
        responsibilities as responsibilities,
        sample as sample,
        score as score,
        silhouette as silhouette,
        uncertainty as uncertainty,
    )
    from jaxgmm.gradient import fit_gradient as fit_gradient
    from jaxgmm.init import INIT_METHODS as INIT_METHODS
    from jaxgmm.init.given import (
        make_params as make_params,
        params_from_labels as params_from_labels,
        params_from_means as params_from_means,
        params_from_responsibilities as params_from_responsibilities,
    )
    from jaxgmm.interop import from_sklearn as from_sklearn, to_sklearn as to_sklearn
    from jaxgmm.io import load as load, save as save
    from jaxgmm.many import ManyResult as ManyResult, fit_many as fit_many
    from jaxgmm.model import Model as Model
    from jaxgmm.params import GMMParams as GMMParams
    from jaxgmm.prior import Prior as Prior, default_prior as default_prior
    from jaxgmm.scale.stepwise import StepwiseResult as StepwiseResult, fit_stepwise as fit_stepwise
    from jaxgmm.stats import SuffStats as SuffStats
    from jaxgmm.unconstrained import FreeParams as FreeParams, constrain as constrain, unconstrain as unconstrain
