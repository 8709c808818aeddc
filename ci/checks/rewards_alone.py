"""The rewards package by itself, on every supported Python of this machine.

Each Python gets an environment with pytest, its two plugins, hypothesis and the package: nothing
heavy, so this is where Python 3.12 and 3.13 are tested without another copy of torch.  They are
tested beside each other, one a core, and each speaks when it has ended.  A laptop rarely has all
three: what was not run is said, and is no failure unless REQUIRE_ALL_PYTHONS=1 (the
hosted CI sets it).  Run it as `nox -s tests-rewards`.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

from ci.checks import environments
from ci.checks.pythons import SUPPORTED, find_pythons

ROOT = environments.ROOT
LOCK = ROOT / "ci" / "requirements" / "dev.txt"
TESTS_NEED = ("hypothesis", "pytest", "pytest-socket", "pytest-timeout")
PASSED, FAILED, NOT_RUN = "passed", "FAILED", "NOT RUN, no such Python here"


def main() -> int:
    """Run the tests on each Python found; the exit code is 0 when all passed."""
    shutil.rmtree(ROOT / ".nox" / "dist", ignore_errors=True)
    wheel = environments.build_wheel("rewards", ROOT / ".nox" / "dist")
    outcome = dict.fromkeys(SUPPORTED, NOT_RUN)
    pythons = find_pythons()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ended = pool.map(_tested, pythons, pythons.values(), repeat(wheel))
        for version, ran in zip(pythons, ended, strict=True):
            print(f"\n--- rewards alone on Python {version}\n{ran.stdout}", flush=True)
            outcome[version] = FAILED if ran.returncode else PASSED

    print()
    for version, word in outcome.items():
        print(f"rewards on Python {version}: {word}")
    tolerated = {PASSED} if os.environ.get("REQUIRE_ALL_PYTHONS") == "1" else {PASSED, NOT_RUN}
    return 0 if PASSED in outcome.values() and tolerated.issuperset(outcome.values()) else 1


def _tested(version: str, python: Path, wheel: Path) -> "subprocess.CompletedProcess[str]":
    """The tests on one Python, in an environment of its own."""
    home = ROOT / ".nox" / f"rewards-{version}"
    own = environments.create(home, python)
    environments.pip(own, "install", "--quiet", "-c", LOCK, *TESTS_NEED)
    environments.pip(own, "install", "--quiet", "--no-index", "--no-deps", wheel)
    words = ["packages/rewards/tests", "-o", f"cache_dir={home / '.pytest_cache'}", *sys.argv[1:]]
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
