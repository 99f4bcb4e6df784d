"""Plant every fault in a copy of the package and see whether the tests notice: ``python -m tests.mutants [NAME ...]``.

The tree itself is never touched. Exit code 1 if fewer than 28 of all faults, or fewer than all of the named, are
noticed. ``--thorough`` gives what survives its own tests to the whole default test command.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
WANTED = 28
# Left behind: what is no source, and what is large.
IGNORED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "results", "shared")
KILLED, SURVIVED = 1, 0


def plant(mutant: Mutant, folder: Path) -> None:
    """Make the fault in the copy of the package in `folder`."""
    path = folder / "jaxgmm" / mutant.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.name}: {mutant.old!r} stands {source.count(mutant.old)} times in {mutant.file}")
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")


def is_noticed(folder: Path, tests: Sequence[str]) -> bool:
    """Whether pytest, run in `folder`, fails; `SystemExit` if it did not get as far as running tests."""
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    if done.returncode not in (KILLED, SURVIVED) and "error" not in done.stdout.lower():
        raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode != SURVIVED


def try_one(mutant: Mutant, *, thorough: bool) -> bool:
    """Whether a fault is noticed by its own tests or, with `thorough`, by any."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "copy"
        shutil.copytree(ROOT, folder, ignore=IGNORED)
        plant(mutant, folder)
        return is_noticed(folder, mutant.tests) or (thorough and is_noticed(folder, ()))


def main(words: Sequence[str] | None = None) -> int:
    """Try the faults, one after the other; print a line for each and the total."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of the names of faults; all by default")
    parser.add_argument("--thorough", action="store_true", help="run the whole suite on what survives")
    given = parser.parse_args(words)
    chosen = [m for m in MUTANTS if not given.names or any(part in m.name for part in given.names)]
    noticed = 0
    for mutant in chosen:
        begun = time.monotonic()
        killed = try_one(mutant, thorough=given.thorough)
        noticed += killed
        verdict = "killed" if killed else "SURVIVED"
        print(f"{verdict:<9} {mutant.name:<56} {time.monotonic() - begun:6.1f} s", flush=True)
    print(f"{noticed} of {len(chosen)} killed")
    return 0 if noticed >= (len(chosen) if given.names else WANTED) else 1


if __name__ == "__main__":
    sys.exit(main())
