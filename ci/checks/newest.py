"""The unit tests once more, on the newest libraries: an environment of its own in `.nox/newest`.

    python -m ci.checks.newest                                # all of them
    python -m ci.checks.newest packages/trainer -k rollout    # what pytest is given

The environment is made of newest.txt and dev.txt, with a package index, and kept for the next time.
"""

import subprocess
import sys
from pathlib import Path

from ci.checks import environments

ROOT = environments.ROOT
LOCKS = [ROOT / "ci" / "requirements" / name for name in ("newest.txt", "dev.txt")]
HOME = ROOT / ".nox" / "newest"


def newest_python() -> Path:
    """The Python of the environment, made where it is missing or of other locks."""
    python, done = HOME / "bin" / "python", HOME / "installed"
    wanted = "".join(path.read_text(encoding="utf-8") for path in LOCKS)
    if not done.exists() or done.read_text(encoding="utf-8") != wanted:
        environments.create(HOME, Path(sys.executable))
        locked = [word for path in LOCKS for word in ("-r", path)]
        environments.pip(python, "install", "--quiet", "--no-compile", *locked)
        ours = [
            w
            for path in sorted(ROOT.glob("packages/*/pyproject.toml"))
            for w in ("-e", path.parent)
        ]
        alone = ("--no-deps", "--no-build-isolation")
        environments.pip(python, "install", "--quiet", *alone, *ours)
        print(environments.pip(python, "check"), end="")
        done.write_text(wanted, encoding="utf-8")
    return python


if __name__ == "__main__":
    tests = [str(newest_python()), "-m", "pytest", *sys.argv[1:]]
    sys.exit(subprocess.run(tests, check=False, cwd=ROOT).returncode)
