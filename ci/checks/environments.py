"""Small environments for checks that must not see the whole of `.venv`.

Everything here runs under `.venv`'s Python: its pip and its hatchling work on the new
environments, which need neither.
"""

import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
SHARED = Path(sysconfig.get_path("purelib"))
"""Where `.venv` keeps its packages."""


class UndeclaredError(Exception):
    """A wheel declares something that `.venv` does not hold."""


def build_wheel(package: str, dist: Path) -> Path:
    """Build the wheel of one of our packages into `dist`, an empty folder or a new one."""
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*wheel, "--wheel-dir", dist, f"packages/{package}"], check=True, cwd=ROOT)
    return next(dist.glob(f"xmlgrpo_{package}-*.whl"))


def create(home: Path, python: Path) -> Path:
    """Make an empty environment of `python`, without even pip; returns its Python."""
    subprocess.run([python, "-m", "venv", "--clear", "--without-pip", home], check=True)
    return home / "bin" / "python"


def pip(python: Path, *arguments: str | Path) -> str:
    """Run `.venv`'s pip upon another environment; returns what it printed.

    Raises:
        subprocess.CalledProcessError: it failed, after it was printed why.
    """
    command: list[str | Path] = [sys.executable, "-m", "pip", "--python", python]
    command += ["--disable-pip-version-check", *arguments]
    ran = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if ran.returncode:  # "pip check" names on stdout what is missing
        print(ran.stdout, end="", flush=True)
    ran.check_returncode()
    return ran.stdout


def beside_venv(name: str, wanted: Sequence[str]) -> Path:
    """The Python of an environment that has `wanted` and, of what that lacks, `.venv`'s packages.

    It is made in `.nox`, with a package index, and kept for the next time.

    Args:
        wanted: what pip installs, with its options.
    """
    home = ROOT / ".nox" / name
    done = home / "installed"
    if not done.exists() or done.read_text(encoding="utf-8") != repr(wanted):
        python = create(home, Path(sys.executable))
        pip(python, "install", "--quiet", *wanted)
        (site,) = home.glob("lib/python*/site-packages")
        # `addsitedir` reads the .pth files in there, too
        lines = f"import site; site.addsitedir({str(SHARED)!r})\n"
        (site / "zz_shared.pth").write_text(lines, encoding="utf-8")
        done.write_text(repr(wanted), encoding="utf-8")
    return home / "bin" / "python"


def link_requirements(python: Path, extra: str = "") -> None:
    """Link from `.venv` what the wheels installed in an environment declare, and nothing more.

    Installing torch afresh for each wheel would cost minutes and gigabytes, and sharing `.venv`
    whole would hide an undeclared import behind somebody else's dependency.  With the closure of
    `Requires-Dist` linked in, `pip check` and an import of every module mean what they mean after
    a real `pip install`.

    Args:
        python: of the environment.
        extra: of our wheels in it that is asked for, where they have it.

    Raises:
        UndeclaredError: a requirement is not in `.venv`: the lock is stale.
    """
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    wheels = list(metadata.distributions(path=[str(site)]))
    ours = {canonicalize_name(wheel.name): wheel.requires or [] for wheel in wheels}
    for distribution in _closure(ours, extra):
        for entry in _top_level(distribution):
            link = site / entry
            if not link.exists():
                link.symlink_to(SHARED / entry)


def _closure(
    ours: Mapping[NormalizedName, Sequence[str]], extra: str
) -> Iterator[metadata.Distribution]:
    """The distributions of `.venv` that our wheels, by name, ask for, directly or not."""
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(line), extra) for lines in ours.values() for line in lines]
    while todo:
        requirement, extra = todo.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for asked in {"", *requirement.extras}:
            if (name, asked) in seen:
                continue
            seen.add((name, asked))
            if name in ours:  # its plain requirements are there already, those of the extra not
                todo += [(Requirement(line), asked) for line in ours[name]]
                continue
            try:
                distribution = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                raise UndeclaredError(f"{requirement} is declared but not in .venv") from None
            yield distribution
            todo += [(Requirement(line), asked) for line in distribution.requires or ()]


def _top_level(distribution: metadata.Distribution) -> set[str]:
    """The entries of site-packages that belong to a distribution: its folders and files."""
    return {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
