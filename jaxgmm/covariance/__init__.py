"""Covariance families by name: the registry is the only place that maps a name to behaviour."""

from __future__ import annotations

from jaxgmm._status import UsageError, choose
from jaxgmm.covariance._axis_aligned import AxisAligned
from jaxgmm.covariance._base import CovarianceFamily
from jaxgmm.covariance._full import Full
from jaxgmm.covariance._tied import Tied

__all__ = ["COVARIANCE_TYPES", "CovarianceFamily", "get_family"]

_FAMILIES: dict[str, CovarianceFamily] = {
    family.name: family
    for family in (
        Full(),
        Tied(),
        AxisAligned("diag", "VVI", share_components=False, share_features=False),
        AxisAligned("spherical", "VII", share_components=False, share_features=True),
        AxisAligned("tied_diag", "EEI", share_components=True, share_features=False),
        AxisAligned("tied_spherical", "EII", share_components=True, share_features=True),
    )
}
_BY_MCLUST_CODE = {family.mclust_code: family for family in _FAMILIES.values()}

COVARIANCE_TYPES: tuple[str, ...] = tuple(_FAMILIES)


def get_family(covariance_type: str) -> CovarianceFamily:
    """The family of that name (``"full"``) or mclust code (``"VVV"``); `UsageError` names the nearest known."""
    known_names = _FAMILIES | _BY_MCLUST_CODE
    family = known_names.get(covariance_type) if isinstance(covariance_type, str) else None
    if family is None:
        raise UsageError(
            "E109",
            f"unknown covariance_type {covariance_type!r}",
            choose(covariance_type, list(known_names), COVARIANCE_TYPES),
        )
    return family
