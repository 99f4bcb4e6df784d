"""Every code of the catalogue is provoked, names what it met, and offers a cure."""

from __future__ import annotations

import json
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxgmm
from jaxgmm import (
    ConvergenceWarning,
    GaussianMixture,
    JaxgmmError,
    fit_many,
    functional,
    io,
    make_params,
)
from jaxgmm.__main__ import main
from jaxgmm._catalogue import CATALOGUE
from jaxgmm._status import DataError, FitError, Status, UsageError
from jaxgmm.cli.output import Console
from jaxgmm.data import read_table
from tests.helpers import K, messages
from tests.provoked import CALLS, SCENES, SHELL, X


def test_every_code_has_one_case_that_provokes_it():
    assert sorted([*SHELL, *SCENES, *CALLS]) == sorted(CATALOGUE)


def fits_a_terminal(err):
    """Errors, warnings and their helps in lines of 80 characters; notes may be longer."""
    note = re.compile(r"jaxgmm: (?!error\[|warning\[)")
    return all(len(line) <= 80 for line in err.splitlines() if not note.match(line))


@pytest.mark.parametrize("code", [*SHELL, *SCENES])
def test_commands(files, monkeypatch, capsys, code):
    monkeypatch.chdir(files)
    line, own = SHELL[code] if code in SHELL else SCENES[code][:2]
    if code in SCENES:
        SCENES[code][2](monkeypatch)
    exit_code = main(line.split())
    _, err = capsys.readouterr()
    kind = "warning" if code.startswith("W") else "error"
    (said,) = (message for message in messages(err) if f"{kind}[{code}]" in message)
    match = re.fullmatch(rf"jaxgmm: {kind}\[{code}\]: (.+?) help: (.+)", said)
    assert own in match[1]
    assert exit_code == {"E903": 130, "E904": 4, "E905": 75}.get(code, CATALOGUE[code].group.exit_code)
    assert ("Traceback" in err) == (code == "E901")
    assert code == "E901" or fits_a_terminal(err)


@pytest.mark.parametrize("code", [code for code in SHELL if code.startswith("E")])
def test_errors_as_json(files, monkeypatch, capsys, code):
    monkeypatch.chdir(files)
    line, own = SHELL[code]
    exit_code = main([*line.split(), "--json"])
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["code"], found["exit_code"]) == (code, exit_code)
    assert own in found["error"]
    assert "\n" not in found["error"]
    assert f"jaxgmm: error[{code}]: {found['error']} help: {found['help']}" in messages(err)


@pytest.mark.parametrize("code", [code for code in CALLS if code.startswith("E")])
def test_calls(files, monkeypatch, code):
    monkeypatch.chdir(files)
    if code == "E147":
        monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    call, own = CALLS[code]
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    error = caught.value
    assert error.code == code
    assert own in str(error)
    assert error.help in str(error) or error.help.capitalize()[:1] + error.help[1:] in str(error)
    assert str(error).endswith(f" [{code}]")
    if isinstance(error, JaxgmmError):
        assert isinstance(error, getattr(jaxgmm, CATALOGUE[code].group.exception))
    else:  # where scikit-learn has a class of its own, or asks for a TypeError
        assert type(error).__module__.startswith(("sklearn", "builtins", "jaxgmm.estimators"))
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.code, copy.help) == (type(error), str(error), error.code, error.help)


@pytest.mark.parametrize("code", [code for code in CALLS if code.startswith("W")])
def test_warnings_of_calls(files, monkeypatch, code):
    monkeypatch.chdir(files)
    call, own = CALLS[code]
    with pytest.warns(UserWarning, match=rf"{own}.* \[{code}\]$") as caught:
        call()
    assert caught[0].message.code == code


def test_an_estimator_that_does_not_converge_warns_with_a_code():
    with pytest.warns(Warning, match="did not converge") as caught:
        GaussianMixture(K, max_iter=1, tol=0, random_state=0).fit(X)
    (warning,) = caught
    assert warning.message.code == "W301"
    assert warning.message.help.startswith("try different init parameters")
    assert warning.category.__name__ == ConvergenceWarning.__name__


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("E108", lambda: GaussianMixture(K, random_state=-1).fit(X)),
        ("E108", lambda: GaussianMixture(0).fit(X)),
        ("E108", lambda: jaxgmm.sample(io.load("good.npz").params, 0, 10**20)),
        ("E108", lambda: read_table("points.npy", columns=1.5)),
        ("E148", lambda: fit_many(3, K, key=0)),
        ("E201", lambda: GaussianMixture(K).fit([*X.astype(str).tolist()[:-1], ["1", "2", "three"]])),
        ("E201", lambda: GaussianMixture(K, means_init="a").fit(X)),
        ("E206", lambda: GaussianMixture(K).fit([[1.0], [1.0, 2.0]])),
        ("E220", lambda: fit_many([X], K, key=0, sample_weight=3)),
    ],
)
def test_what_numpy_would_say_otherwise(files, monkeypatch, code, call):
    monkeypatch.chdir(files)
    with pytest.raises(ValueError, match=rf"\[{code}\]$"):
        call()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("fit " + "x" * 300 + ".npy -n 3", "E403"),
        ("summary " + "x" * 300, "E403"),
        ("fit points.npy -n " + "9" * 5000, "E108"),
        ("sample good.npz -n 99999999999", "E108"),
        ("sweep points.npy --candidates 1-300000000", "E108"),
        ("generate blobs --std 1e308", "E108"),
        ("generate cube --n-per-corner 99999999999999999999999999", "E108"),
        ("run nul.toml", "E108"),
    ],
    ids=lambda value: value[:20],
)
def test_extremes_are_refused_not_a_bug(files, monkeypatch, capsys, line, code):
    monkeypatch.chdir(files)
    Path("nul.toml").write_text('[data]\npath = "a\\u0000b"\n[fit]\nn_components = 3\n')
    assert main(line.split()) == CATALOGUE[code].group.exit_code
    _, err = capsys.readouterr()
    assert f"error[{code}]" in err
    assert "Traceback" not in err


def test_more_rows_than_memory_are_refused_before_they_are_drawn(monkeypatch):
    monkeypatch.setattr(functional, "_compiled_sample", lambda *_, **__: pytest.fail("XLA would end the process"))
    wide = make_params([1.0], np.zeros((1, 2000)), np.ones((1, 2000)), "diag")
    with pytest.raises(MemoryError):
        jaxgmm.sample(wide, 0, 2**31 - 1)


def test_a_fit_error_keeps_its_stop_code_when_copied():
    error = FitError("E301", "found", "help", Status.SINGULAR)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.status, str(copy)) == (Status.SINGULAR, "found; help [E301]")


@pytest.mark.parametrize("kind", [UsageError, DataError])
def test_an_unknown_code_cannot_be_raised(kind):
    with pytest.raises(KeyError):
        kind("E999", "found", "help")
    with pytest.raises(KeyError):
        Console().warn("W999", "found", "help")
