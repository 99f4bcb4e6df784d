"""The shell: made data, configurations, help, tables of names, the process. Errors are in test_cli_errors.py."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm import _provenance
from jaxgmm.cli import commands, inputs, options, parser
from jaxgmm.data import GENERATORS, Table, make_blobs
from jaxgmm.io import load
from jaxgmm.kernels import KERNELS
from tests.blobs import COMMON, blobs, one_object, write_blobs

# --- generate, run, doctor, demo -------------------------------------------------------------------------------


def test_generate_is_the_generator(shell):
    """S2.16, S2.6: make_blobs(2000 rows, 4 centres, 0.9, seed 2) saved as .npy."""
    shell("generate", "blobs", "--n_samples", 2000, "--std", 0.9, "--seed", 2, "-o", "s2.npy", "--labels-to", "l.csv")
    truth = make_blobs(2000, 4, 2, 0.9, seed=2)
    np.testing.assert_array_equal(np.load("s2.npy"), truth.x)
    np.testing.assert_array_equal(np.loadtxt("l.csv", skiprows=1), truth.labels)
    out, _ = shell("generate", "1d-blobs", "--sizes", "3,2", "--means", "-1,1", "--stds", "1,1", "--with-labels")
    assert len(out.splitlines()) == 6
    assert out.splitlines()[0] == "x0,label"


def test_generated_text_is_read_back(shell):
    """S0.16: a text file of points in three columns."""
    shell("generate", "cube", "--n-per-corner", 3, "--seed", 1, "-o", "cube.tsv")
    np.testing.assert_array_equal(np.loadtxt("cube.tsv", skiprows=1), GENERATORS["cube"](n_per_corner=3, seed=1).x)


def test_run_takes_defaults_then_the_file_then_flags(shell, tmp_path):
    write_blobs()
    folder = tmp_path / "jobs"
    folder.mkdir()
    (folder / "job.toml").write_text(
        '[data]\npath = "../blobs.npy"\n[fit]\nn_clusters = 2\nn_restarts = 2\nseed = 3\nmax_iter = 7\n'
    )
    shell("run", "jobs/job.toml", "-n", 3, "--seed", 0, "-q")
    meta, direct = load("model.npz").meta, jaxgmm.fit(blobs(), 3, key=0, n_restarts=2, max_iter=7)
    assert meta["options"]["max_iter"] == 7  # from the file
    assert meta["options"]["tol"] == 1e-8  # by default
    assert meta["log_likelihood"] == direct.log_likelihood  # K and seed from the flags


def test_doctor_finds_this_installation_sound(shell):
    out, _ = shell("doctor", "--json")
    found = one_object(out)
    assert found["self_check"]["ok"]
    assert found["versions"]["numpy"] == np.__version__
    assert found["device"]["count"] >= 1


def test_doctor_says_what_to_do_where_there_is_no_device(shell, monkeypatch):
    def devices():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", devices)
    out, err = shell("doctor", "--json", code=1)
    found = one_object(out)
    assert (found["code"], found["exit_code"]) == ("E906", 1)
    assert "device        none" in err
    assert "Traceback" not in err
    error = _provenance._no_device("cuda,cpu", "")
    assert "JAX_PLATFORMS is 'cuda,cpu'" in error.found
    assert "unset JAX_PLATFORMS" in error.help
    assert "jax[cuda13]" in error.help
    error = _provenance._no_device("tpu", "No libtpu.so (set JAX_PLATFORMS='' to choose)")
    assert error.found.endswith("(No libtpu.so)")
    assert "cuda" not in error.help


def test_quiet_leaves_only_the_file(shell):
    write_blobs()
    assert shell("fit", "blobs.npy", "-n", 3, *COMMON, "--quiet") == ("", "")
    assert Path("model.npz").exists()


@pytest.mark.parametrize("name", [c.name for c in commands.COMMANDS.values()])
def test_every_command_has_help_within_80_columns(shell, name):
    out, _ = shell(name, "--help")
    assert out.startswith(f"usage: jaxgmm {name}")
    assert max(map(len, out.splitlines())) <= 80
    command = commands.COMMANDS[name]
    assert all(option.flag in out for option in command.options)


def test_overview_lists_every_command(shell):
    out, _ = shell("--help")
    assert max(map(len, out.splitlines())) <= 80
    for name in commands.COMMANDS:
        assert f"\n  {name} " in out
    assert shell("--version")[0] == f"jaxgmm {jaxgmm.__version__}\n"


def test_the_examples_in_the_help_parse():
    for command in commands.COMMANDS.values():
        for example in command.examples:
            found, words = parser.split_command(example.split()[1:])
            if found.name == "run":
                continue
            # Behind two hyphens stands the command that is launched.
            words = words[: words.index("--")] if "--" in words else words
            given = parser.parse(found, words) if found.name else parser.parse_bare(words)[1]
            assert given or not words


# --- the tables that stand in for the registries ----------------------------------------------------------------


def test_names_are_those_of_the_registries():
    from jaxgmm.covariance import get_family

    assert options.COVARIANCE_TYPES == jaxgmm.COVARIANCE_TYPES
    assert tuple(get_family(name).mclust_code for name in jaxgmm.COVARIANCE_TYPES) == options.MCLUST_CODES
    assert options.INIT_METHODS == jaxgmm.INIT_METHODS
    assert options.CRITERIA == jaxgmm.CRITERIA
    assert sorted(options.KERNELS) == sorted(("auto", *KERNELS))


@pytest.mark.parametrize(
    ("command", "function"), [("fit", jaxgmm.fit), ("sweep", jaxgmm.sweep), ("fit-many", jaxgmm.fit_many)]
)
def test_what_is_handed_on_is_what_the_library_takes(command, function):
    """A flag that the function does not know would be a bug, and one that is not handed on would do nothing."""
    offered = {option.name: option.default for option in commands.COMMANDS[command].options}
    handed_on = inputs.fit_arguments(offered, Table(np.zeros((1, 1)), ("a",)), None)
    taken = set(inspect.signature(function).parameters)
    assert set(handed_on) <= taken
    assert taken & set(offered) <= {*handed_on, "n_components", "candidates", "covariance_type", "criterion"}


def test_generators_take_what_the_table_says():
    assert list(options.GENERATORS) == list(GENERATORS)
    for name, taken in options.GENERATORS.items():
        assert {*taken, "seed"} == set(inspect.signature(GENERATORS[name]).parameters), name


# --- the process -----------------------------------------------------------------------------------------------


def test_help_in_a_new_process_imports_nothing_heavy():
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "jaxgmm", "--help"], capture_output=True, text=True, check=True
    )
    assert "commands:" in found.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in found.stderr.splitlines()}
    assert "jaxgmm.cli.parser" in imported
    assert not imported & {"jax", "numpy", "scipy", "jaxgmm.api"}


def test_module_and_json_in_a_new_process_whatever_the_terminal_can_show(tmp_path):
    rows = "".join(f"{a!r},{b!r}\n" for a, b in blobs().tolist())
    (tmp_path / "x.csv").write_text(f"größe,b\n{rows}", encoding="utf-8")
    words = [sys.executable, "-m", "jaxgmm", "fit", "x.csv", "-n", "1", "--seed", "0", "--json"]
    terminal = os.environ | {"PYTHONIOENCODING": "ascii"}
    found = subprocess.run(words, cwd=tmp_path, env=terminal, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert one_object(found.stdout)["columns"] == ["größe", "b"]
    assert " gr\\xf6\\xdfe " in found.stderr
    words = [sys.executable, "-m", "jaxgmm", "sample", "model.npz", "-n", "1", "--seed", "0"]
    found = subprocess.run(words, cwd=tmp_path, env=terminal, capture_output=True, text=True)
    assert found.stdout.splitlines()[0] == "gr\\xf6\\xdfe,b"
    assert sorted(os.listdir(tmp_path)) == ["model.npz", "x.csv"]


def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path):
    words = [sys.executable, "-m", "jaxgmm", "generate", "cube", "--seed", "0"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "x0,x1,x2\n"
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert "Traceback" not in err
    assert "Exception" not in err
