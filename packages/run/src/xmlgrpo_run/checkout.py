"""Which code?  The commit of our own repository, never that of one around the environment.

And the versions of the packages that it runs with.
"""

import os
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

HERE = Path("packages", "run", "src", "xmlgrpo_run")  # of this package, in our repository


@dataclass(frozen=True, slots=True)
class Code:
    """The code of a run.

    Attributes:
        commit: of our repository; None where the packages were not run from it.
        dirty: whether anything of the packages differed from that commit.
    """

    commit: str | None
    dirty: bool = False


def code_of(package: Path = Path(__file__).parent) -> Code:
    """The commit of the code that runs.

    An environment may lie in somebody else's repository, whose commit says nothing of this code:
    it counts only where git has this package itself under our repository's path.
    """
    top = _git(package, "rev-parse", "--show-toplevel")
    if top is None or (Path(top) / HERE).resolve() != package.resolve():
        return Code(None)
    if not _git(Path(top), "ls-files", "--", str(HERE)):
        return Code(None)
    changed = _git(Path(top), "status", "--porcelain", "--", "packages")
    return Code(_git(Path(top), "rev-parse", "HEAD"), dirty=bool(changed))


def installed_version(package: str) -> str | None:
    """The version of an installed package; None where it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def is_installed(module: str) -> bool:
    """Whether a package is there; a mere folder of its name, as wandb leaves one, is none."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None


def _git(folder: Path, *words: str) -> str | None:
    # a hook's variables name the hook's repository
    environment = {key: value for key, value in os.environ.items() if key[:4] != "GIT_"}
    try:
        ended = subprocess.run(
            ["git", *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.strip()
