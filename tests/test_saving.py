"""A save that fails or is killed leaves the old file or the new one whole, and no litter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from jaxgmm.io import save
from jaxgmm.model import Model
from tests.helpers import random_params

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of the process as Linux has them")


@pytest.fixture(scope="module")
def model():
    return Model(params=random_params("full", 2, 2), shift=[0.1, 1e8], columns=("x", "y"), meta={"seed": 3})


@pytest.fixture
def path(tmp_path, model):
    return save(tmp_path / "model.npz", model)


FULL = """
import os, resource, sys
from jaxgmm.io import load, save
from jaxgmm import DataError
model = load(sys.argv[1])
size = os.path.getsize(sys.argv[1])
for limit in (0, 1, 100, size // 2, size - 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for name in (sys.argv[1], sys.argv[2]):
        try:
            save(name, model, force=True)
            print("saved", limit)
        except DataError as error:
            print("refused", error)
"""


@linux
def test_a_full_disk_leaves_the_old_file_and_no_litter(path):
    before = path.read_bytes()
    command = [sys.executable, "-c", FULL, str(path), str(path.with_name("new.npz"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(lines) == 10
    assert all("cannot be written (File too large); free some space" in line for line in lines), done.stdout
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["model.npz"]


SHELL_FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
from jaxgmm.__main__ import main
sys.exit(main())
"""


@linux
@pytest.mark.parametrize("name", ["rows.csv", "rows.npy"])
def test_a_full_disk_is_a_sentence_in_the_shell(path, name):
    target = path.with_name(name)
    target.write_text("old")
    words = ["generate", "cube", "--seed", "0", "-o", str(target), "--force"]
    environment = os.environ | {"JAXGMM_CACHE_DIR": "off"}
    command = [sys.executable, "-c", SHELL_FULL, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (3, "")
    assert "cannot be written (File too large)" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert target.read_text() == "old"
    assert sorted(os.listdir(path.parent)) == sorted(["model.npz", name])


# A child is forked where nothing has computed, saves one of two models again and again, and is killed.
KILLED = """
import os, random, shutil, signal, sys, time
from jaxgmm.io import load, save
path, rounds = sys.argv[1], int(sys.argv[2])
folder = os.path.dirname(path)
first = load(path)
second = load(sys.argv[3])
os.unlink(sys.argv[3])
random.seed(0)
seen = set()
for _ in range(rounds):
    ready, told = os.pipe()
    child = os.fork()
    if not child:
        save(path, first, force=True)
        os.write(told, b"x")
        while True:
            save(path, second, force=True)
            save(path, first, force=True)
    os.close(told)
    assert os.read(ready, 1) == b"x"
    os.close(ready)
    time.sleep(random.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    seen.add(load(path).digest)
    # Killed between link and rename (see the test below) a complete file waits for the next to write the model.
    rest = [name for name in os.listdir(folder) if name != "model.npz"]
    assert len(rest) <= 1, rest
    for name in rest:
        shutil.copy(os.path.join(folder, name), sys.argv[3])
        seen.add(load(sys.argv[3]).digest)
        os.unlink(sys.argv[3])
    save(path, first, force=True)
    assert os.listdir(folder) == ["model.npz"], os.listdir(folder)
assert seen <= {first.digest, second.digest}
print(len(seen))
"""


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="no files without a name here")
def test_fifty_kills_while_saving_leave_one_whole_model(tmp_path, model):
    path = save(tmp_path / "model.npz", model)
    other = save(tmp_path / "other.npz", Model(params=random_params("full", 40, 20)))
    command = [sys.executable, "-c", KILLED, str(path), "50", str(other)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "2\n"  # the kills came at many moments


# Killed at each of the three calls to the system that a save ends with.
KILLED_AT = """
import os, signal, sys
from jaxgmm.io import load, save
path, other, call = sys.argv[1:]
model = load(other)
def die(*words, **more):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, call, die)
save(path, model, force=True)
"""


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="no files without a name here")
@pytest.mark.parametrize(("call", "waiting"), [("fsync", 0), ("link", 0), ("replace", 1)])
def test_a_kill_at_any_step_leaves_the_old_model_and_at_most_a_whole_new_one(tmp_path, model, call, waiting):
    (tmp_path / "models").mkdir()
    path = save(tmp_path / "models" / "model.npz", model)
    other = save(tmp_path / "other.npz", Model(params=random_params("full", 40, 20)))
    before = path.read_bytes()
    for _ in range(2):
        command = [sys.executable, "-c", KILLED_AT, str(path), str(other), call]
        assert subprocess.run(command, timeout=300).returncode == -signal.SIGKILL
        assert path.read_bytes() == before
        # Its name depends on the model's alone, so that kills do not pile files up.
        rest = [name for name in os.listdir(path.parent) if name != "model.npz"]
        assert len(rest) == waiting, rest
        for name in rest:
            assert (path.parent / name).read_bytes() == other.read_bytes()
    save(path, model, force=True)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["model.npz"]
