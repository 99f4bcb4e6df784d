"""The kinds of values of the shell: words and typed values mean the same, and the others are refused in its words."""

from __future__ import annotations

import pytest

from jaxgmm._catalogue import CATALOGUE
from jaxgmm.cli import kinds

# A kind, a word for it and the value as a configuration has it, then what it refuses as a word and as a value.
CASES = {
    "text": (kinds.Kind(), "a b", "a b", [""], ["", 3, True]),
    "whole": (kinds.Whole(1), "3", 3, ["0", "3.5", "three", ""], [0, 3.5, True, "3"]),
    "number": (kinds.Number(), "1e-3", 1e-3, ["x", "-1", "nan", "inf"], [-1.0, float("nan"), True, "1"]),
    "numbers": (kinds.Numbers(), "0.5,-2", [0.5, -2.0], ["0.5,x", ""], [[], "0.5", [True], 0.5]),
    "wholes": (kinds.Wholes(), "100,50", [100, 50], ["100,0", "1.5"], [[], 100, [0], [1.5]]),
    "columns": (kinds.Columns(), "a,2", ["a", "2"], ["a,,b", ""], [[], [True], [1.5]]),
    "column": (kinds.Column(), "class", "class", [""], ["", True, 1.5]),
    "choice": (kinds.Choice(("bic", "aic")), "bic", "bic", ["bci", ""], ["bci", 1]),
    "choices": (kinds.Choices(("full", "diag")), "full,diag", ["full", "diag"], ["full,dig"], [[], 3, ["dig"]]),
    "counts": (kinds.Counts(), "1-3", [1, 2, 3], ["3-1", "a", "0"], [[], 3.5, [0]]),
    "range": (kinds.Range(), ["2", "4"], [2, 4], [["4", "2"], ["0", "2"]], [[2], [4, 2], "2 4"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_word_means_what_a_configuration_says(name):
    kind, word, value, *_ = CASES[name]
    assert kind.read(word) == kind.check(value)


@pytest.mark.parametrize(("name", "word"), [(name, word) for name, case in CASES.items() for word in case[3]])
def test_words_that_are_refused(name, word):
    with pytest.raises(kinds.Refused) as caught:
        CASES[name][0].read(word)
    assert caught.value.code in CATALOGUE
    assert caught.value.found


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, case in CASES.items() for value in case[4]])
def test_values_that_are_refused(name, value):
    with pytest.raises(kinds.Refused):
        CASES[name][0].check(value)
