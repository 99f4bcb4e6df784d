"""Handwritten digits that scikit-learn brings along, as a sample with known classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxgmm._status import UsageError
from jaxgmm.data.synthetic import Synthetic


def make_digits(digits: Sequence[int | str] = (2, 6), seed: int = 0) -> Synthetic:
    """Images of handwritten digits, 8 x 8 pixels with grey levels 0 to 16, some 180 of each digit.

    No mixture drew them: `weights`, `means` and `covariances` are the shares and the moments of the images of each
    digit. A pixel that no writer has touched makes the covariances singular.

    Args:
        digits: which of the ten, K different ones.
        seed: of the order of the rows.
    Returns: Synthetic with D = 64; label k stands for the k-th digit of `digits`, as `label_names` says.
        `UsageError` without scikit-learn, or for what is no digit.
    Source: `sklearn.datasets.load_digits`, which is the test part of E. Alpaydin and C. Kaynak, "Optical recognition
        of handwritten digits", UCI Machine Learning Repository (1998).
    Example:
        >>> images = make_digits([2, 6])
        >>> images.x.shape, images.label_names, np.bincount(images.labels).tolist()
        ((358, 64), ('2', '6'), [177, 181])
    """
    names = [str(digit) for digit in digits]
    if not names or len(set(names)) < len(names) or not set(names) <= set("0123456789"):
        found = f"digits must be different ones of 0 to 9, not {', '.join(names) or 'none'}"
        raise UsageError("E108", found, "for example 2,6")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UsageError("E147", "the digits come with scikit-learn", "pip install 'jaxgmm[sklearn]'") from None
    images = load_digits()
    of_digit = [images.data[images.target == int(name)] for name in names]
    sizes = np.array([len(rows) for rows in of_digit])
    order = np.random.default_rng(seed).permutation(sizes.sum())
    return Synthetic(
        x=np.concatenate(of_digit)[order],
        labels=np.repeat(np.arange(len(sizes)), sizes)[order],
        weights=sizes / sizes.sum(),
        means=np.array([rows.mean(axis=0) for rows in of_digit]),
        covariances=np.array([np.cov(rows.T, bias=True) for rows in of_digit]),
        name="digits",
        label_names=tuple(names),
    )
