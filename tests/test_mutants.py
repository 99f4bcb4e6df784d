"""The table of planted faults fits the source that it is to be planted in; `python -m tests.mutants` plants them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import jaxgmm
from tests.mutants.__main__ import ROOT, WANTED, plant
from tests.mutants.table import MUTANTS

PACKAGE = Path(jaxgmm.__file__).parent


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_fault_can_be_planted(mutant, tmp_path):
    source = (PACKAGE / mutant.file).read_text(encoding="utf-8")
    assert source.count(mutant.old) == 1
    copy = tmp_path / "jaxgmm" / mutant.file
    copy.parent.mkdir(parents=True)
    copy.write_text(source, encoding="utf-8")
    plant(mutant, tmp_path)
    planted = copy.read_text(encoding="utf-8")
    # A fault in what is computed, not in the grammar.
    assert ast.dump(ast.parse(planted)) != ast.dump(ast.parse(source))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_the_tests_of_a_fault_exist(mutant):
    for words in mutant.tests:
        path, _, name = words.partition("::")
        text = (ROOT / path).read_text(encoding="utf-8")
        assert f"def {name}(" in text or not name


def test_there_are_enough_faults_with_names_of_their_own():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= WANTED + 2


def test_a_fault_that_does_not_fit_is_refused(tmp_path):
    (tmp_path / "jaxgmm").mkdir()
    (tmp_path / "jaxgmm" / MUTANTS[0].file).write_text("")
    with pytest.raises(SystemExit, match="stands 0 times"):
        plant(MUTANTS[0], tmp_path)
