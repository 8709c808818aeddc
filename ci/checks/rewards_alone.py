"""The rewards package by itself, on every supported Python of this machine.

Each Python gets an environment with pytest, its two plugins, hypothesis and the package: nothing
heavy, so this is where Python 3.12 and 3.13 are tested without another copy of torch.  They are
tested beside each other, one a core.  A laptop rarely has all
three: what was not run is said, and is no failure unless REQUIRE_ALL_PYTHONS=1 (the
hosted CI sets it).  Run it as `nox -s tests-rewards`.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

from ci.checks import environments
from ci.checks.pythons import SUPPORTED, find_pythons

ROOT = environments.ROOT
LOCK = ROOT / "ci" / "requirements" / "dev.txt"
TESTS_NEED = ("hypothesis", "pytest", "pytest-socket", "pytest-timeout")
TESTS = "packages/rewards/tests"
APART = tuple(f"{TESTS}/{room}" for room in ("commands", "tasks"))
# two halves, so that three Pythons keep two cores busy to the end
PARTS = (APART, (TESTS, *(f"--ignore={room}" for room in APART)))
NO_TESTS = 5  # pytest's exit code
PASSED, FAILED, NOT_RUN = "passed", "FAILED", "NOT RUN, no such Python here"


def main() -> int:
    """Run the tests on each Python found; the exit code is 0 when all passed."""
    shutil.rmtree(ROOT / ".nox" / "dist", ignore_errors=True)
    wheel = environments.build_wheel("rewards", ROOT / ".nox" / "dist")
    outcome = dict.fromkeys(SUPPORTED, NOT_RUN)
    pythons = find_pythons()
    jobs = [(version, part) for version in pythons for part in PARTS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(_environment, pythons, pythons.values(), repeat(wheel))
        own = dict(zip(pythons, made, strict=True))
        ended = list(pool.map(lambda job: _tested(own[job[0]], job[1]), jobs))
    codes: dict[str, set[int]] = {version: set() for version in pythons}
    for (version, _), ran in zip(jobs, ended, strict=True):
        print(f"\n--- rewards alone on Python {version}\n{ran.stdout}", flush=True)
        codes[version].add(ran.returncode)
    for version, found in codes.items():  # a -k may leave one part without a test, not both
        passed = found <= {0, NO_TESTS} and found != {NO_TESTS}
        outcome[version] = PASSED if passed else FAILED

    print()
    for version, word in outcome.items():
        print(f"rewards on Python {version}: {word}")
    tolerated = {PASSED} if os.environ.get("REQUIRE_ALL_PYTHONS") == "1" else {PASSED, NOT_RUN}
    return 0 if PASSED in outcome.values() and tolerated.issuperset(outcome.values()) else 1


def _environment(version: str, python: Path, wheel: Path) -> Path:
    """The Python of a new environment with what the tests need."""
    own = environments.create(ROOT / ".nox" / f"rewards-{version}", python)
    environments.pip(own, "install", "--quiet", "-c", LOCK, *TESTS_NEED)
    environments.pip(own, "install", "--quiet", "--no-index", "--no-deps", wheel)
    return own


def _tested(own: Path, part: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """A part of the tests on one Python."""
    words = [*part, "-p", "no:cacheprovider", *sys.argv[1:]]
    return subprocess.run(
        [own, "-m", "pytest", *words],
        check=False,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


if __name__ == "__main__":
    sys.exit(main())
