"""The rewards package by itself, on every supported Python of this machine.

Each Python gets an environment with pytest, its two plugins and the package: nothing heavy, so
this is where Python 3.12 and 3.13 are tested without another copy of torch.

    .venv/bin/nox -s tests-rewards

A laptop rarely has all three: what was not run is said, and is no failure unless
REQUIRE_ALL_PYTHONS=1 (the hosted CI says so).
"""

import os
import subprocess
import sys
from pathlib import Path

from pythons import SUPPORTED, find_pythons

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "ci" / "requirements" / "dev.txt"
TESTS_NEED = ("pytest", "pytest-socket", "pytest-timeout")


def main() -> int:
    """Run the tests on each Python found; the exit code is 0 when all passed."""
    found = find_pythons()
    passed: dict[str, bool] = {}
    for version, python in found.items():
        print(f"\n--- rewards alone on Python {version}", flush=True)
        home = ROOT / ".nox" / f"rewards-{version}"
        subprocess.run([python, "-m", "venv", "--clear", home], check=True)
        own = home / "bin" / "python"
        quiet_install = [own, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*quiet_install, "-c", LOCK, *TESTS_NEED], check=True)
        subprocess.run([*quiet_install, "--no-index", "--no-deps", _wheel()], check=True)
        ran = subprocess.run(
            [own, "-m", "pytest", "packages/rewards/tests", *sys.argv[1:]], check=False, cwd=ROOT
        )
        passed[version] = ran.returncode == 0

    print()
    for version in SUPPORTED:
        outcome = {None: "NOT RUN, no such Python here", True: "passed", False: "FAILED"}
        print(f"rewards on Python {version}: {outcome[passed.get(version)]}")
    complete = len(passed) == len(SUPPORTED) or os.environ.get("REQUIRE_ALL_PYTHONS") != "1"
    return 0 if passed and all(passed.values()) and complete else 1


def _wheel() -> Path:
    """The package's wheel, built now by `.venv`'s hatchling, which the other Pythons lack."""
    dist = ROOT / ".nox" / "dist"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            dist,
            "packages/rewards",
        ],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    return next(dist.glob("xmlgrpo_rewards-*.whl"))


if __name__ == "__main__":
    sys.exit(main())
