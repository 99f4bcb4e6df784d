"""--strict: a fit that is kept but did not converge, or is degenerate, exits with 4."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from jaxgmm.__main__ import main
from jaxgmm._pytree import replace
from jaxgmm.cli.commands import COMMANDS
from jaxgmm.many import ManyResult
from tests.helpers import messages
from tests.provoked import SHELL


def test_the_fitting_commands_take_strict():
    assert {name for name, command in COMMANDS.items() if command.option("strict")} == {"fit", "sweep", "fit-many"}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (SHELL["W301"][0], "W301"),
        (SHELL["W302"][0], "W302"),
        (SHELL["W303"][0], "W303"),
        (SHELL["W304"][0], "W301"),
        (SHELL["W306"][0], "W306"),
        ("fit-many pairs.csv --group g -n 2 --n-restarts 1 --max-iter 0 --seed 0 -o a.csv --force", "W301"),
    ],
    ids=str,
)
def test_strict_exits_with_4_after_all_is_written(files, monkeypatch, capsys, line, code):
    monkeypatch.chdir(files)
    for name in ("a.npz", "a.csv"):
        Path(name).unlink(missing_ok=True)
    assert main(line.split()) == 0
    loose, _ = capsys.readouterr()
    written = [name for name in ("a.npz", "a.csv") if Path(name).exists()]
    for name in written:
        Path(name).unlink()
    assert main([*line.split(), "--strict"]) == 4
    strict, err = capsys.readouterr()
    assert strict == loose
    assert [name for name in ("a.npz", "a.csv") if Path(name).exists()] == written
    *_, last = messages(err)
    (reason,) = re.findall(rf"warning\[{code}\]: (.*) help: ", "\n".join(messages(err)))
    assert last.startswith("jaxgmm: error[E904]: ")
    assert reason in last
    assert main([*line.split(), "--strict", "--json"]) == 4
    found = json.loads(capsys.readouterr().out)
    assert (found["code"], found["exit_code"]) == ("E904", 4)
    assert "command" in found  # all that the command says without --strict is there too


def test_strict_sees_a_lost_component_of_any_group(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    line = "fit-many pairs.csv --group g -n 2 --n-restarts 1 --tol 1 --seed 0 --strict -o a.csv --force"
    assert main(line.split()) == 0
    summary = ManyResult.empty_components

    def without_rows(result):
        """As if the last component of the second group had no rows."""
        weights = np.array(result.outcome.params.weights)
        weights[1, ..., 1] = 0
        params = replace(result.outcome.params, weights=weights)
        return summary.fget(dataclasses.replace(result, outcome=replace(result.outcome, params=params)))

    monkeypatch.setattr(ManyResult, "empty_components", property(without_rows))
    assert main(line.split()) == 4
    said = messages(capsys.readouterr().err)
    assert any("warning[W303]" in text and "in 1 of 2 groups, first in 1 " in text for text in said)


def test_strict_says_nothing_of_a_sound_fit(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    line = "fit points.npy --init-from good.npz --tol 1e-2 --strict --json -o a.npz --force"
    assert main(line.split()) == 0
    assert "exit_code" not in json.loads(capsys.readouterr().out)


def test_strict_stands_in_a_configuration_too(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    text = '[data]\npath = "points.npy"\n[fit]\ninit_from = "good.npz"\nmax_iter = 1\nstrict = true\noutput = "b.npz"\n'
    Path("strict.toml").write_text(text)
    assert main(["run", "strict.toml", "--force"]) == 4
    assert Path("b.npz").exists()
    capsys.readouterr()


@pytest.mark.parametrize(("options", "code"), [("--reg-covar 0", "E301"), ("--degenerate raise", "E307")])
def test_a_refused_fit_names_the_columns_of_the_file(tmp_path, monkeypatch, capsys, options, code):
    monkeypatch.chdir(tmp_path)
    rows = [f"{i},{2 * i},{i * i % 7}" for i in range(20)]
    Path("x.csv").write_text("\n".join(["east,north,height", *rows]))
    assert main(["fit", "x.csv", "-n", "1", "--seed", "0", *options.split()]) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert code in err
    assert "columns east, north" in err
