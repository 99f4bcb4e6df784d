"""Estimators with scikit-learn's interface; scikit-learn itself is only touched when it is there."""

from jaxgmm.estimators._mixture import GaussianMixture

__all__ = ["GaussianMixture"]
