"""What tests of streams share."""

import numpy as np
import pytest

from jaxgmm import DataError, UsageError
from jaxgmm.data.batches import batches


def rows_of(source, size):
    """All rows, batch after batch."""
    return np.concatenate([batch.x for batch in batches(source, size)])


def difference(ours, theirs):
    """The largest relative difference of the parameters of two fits."""
    return max(
        float(np.max(np.abs(np.asarray(getattr(ours.params, name)) - np.asarray(getattr(theirs.params, name)))))
        / float(np.max(np.abs(np.asarray(getattr(theirs.params, name)))))
        for name in ("weights", "means", "covariances")
    )


def refused(code, call):
    """What the error of that code found."""
    with pytest.raises((DataError, UsageError)) as error:
        call()
    assert error.value.code == code
    return error.value.found
