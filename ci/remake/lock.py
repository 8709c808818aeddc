"""Remake the locks, `ci/requirements/*.txt`, from the `.in` files beside them: `make lock`.

pip's own resolver is asked, in a dry run, once for each supported Python on this machine; nothing
is installed.  Where the Pythons agree, a line is `name==version`; where they do not, it carries a
marker.  What a lock leaves open on purpose:

- torch's build.  `torch==2.13.0` is met by a CPU build and by every CUDA build, so no local
  version (`+cpu`), no hashes, and none of the CUDA libraries: torch pins those itself, exactly.
- what only macOS or Windows needs: pip adds it there, unlocked.

    make lock                      # all of them
    make lock ARGS="dev gguf"      # some of them
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ci.checks.pythons import SUPPORTED, find_pythons

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "ci" / "requirements"


@dataclass(frozen=True, slots=True)
class Lock:
    """One `.in` file: which lock it must agree with, and for which Pythons it is made."""

    name: str
    within: str | None
    pythons: tuple[str, ...] = SUPPORTED


LOCKS = (
    Lock("base", within=None),
    Lock("dev", within="base"),
    Lock("gguf", within="base"),
    Lock("gpu", within="base"),
    Lock("unsloth", within="base"),
    Lock("newest", within=None),
)
FROM_TORCH = re.compile(r"nvidia-|cuda-|triton$")


def resolve(lock: Lock, python: Path) -> dict[str, str]:
    """What pip would install for `lock` into an empty environment of `python`: name to version."""
    within = [] if lock.within is None else ["-c", str(FOLDER / f"{lock.within}.txt")]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
        only_say = ["--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
        wanted = ["-r", str(FOLDER / f"{lock.name}.in"), *within]
        subprocess.run([*pip, "install", *only_say, *wanted], check=True, cwd=ROOT)
        chosen = json.loads(report.read_text(encoding="utf-8"))["install"]
    versions = {}
    for item in chosen:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        ours = "dir_info" in item["download_info"]
        if not ours and not FROM_TORCH.match(name):
            versions[name] = item["metadata"]["version"].partition("+")[0]
    return versions


def merge(by_python: dict[str, dict[str, str]]) -> list[str]:
    """The lines of a lock: a marker only on what is not the same for every Python."""
    pythons_of: dict[tuple[str, str], list[str]] = defaultdict(list)
    for python, versions in by_python.items():
        for name_version in versions.items():
            pythons_of[name_version].append(python)
    lines = []
    for (name, version), pythons in sorted(pythons_of.items()):
        marker = " or ".join(f'python_version == "{python}"' for python in pythons)
        everywhere = len(pythons) == len(by_python)
        lines.append(f"{name}=={version}" + ("" if everywhere else f" ; {marker}"))
    return lines


def without(lines: list[str], locked_elsewhere: Path) -> list[str]:
    """`lines` less those that stand in another lock, installed together with this one."""
    known = set(locked_elsewhere.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line not in known]


def main() -> None:
    """Resolve the locks named on the command line, or all, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="which locks (default: all)")
    wanted = parser.parse_args().names or [lock.name for lock in LOCKS]
    unknown = set(wanted) - {lock.name for lock in LOCKS}
    if unknown:
        parser.error(f"no such lock: {sorted(unknown)}; there are {[lock.name for lock in LOCKS]}")

    found = find_pythons()
    for lock in LOCKS:
        if lock.name not in wanted:
            continue
        by_python = {v: resolve(lock, found[v]) for v in lock.pythons if v in found}
        lines = merge(by_python)
        if lock.within is not None:
            lines = without(lines, FOLDER / f"{lock.within}.txt")
        missing = [v for v in lock.pythons if v not in found]
        header = [
            f"# Made by `make lock` from {lock.name}.in; do not edit.",
            f"# Resolved for Python {', '.join(by_python)} on Linux"
            + (f"; not for {', '.join(missing)}, not found here." if missing else "."),
        ]
        (FOLDER / f"{lock.name}.txt").write_text("\n".join(header + lines) + "\n", encoding="utf-8")
        print(f"{lock.name}.txt: {len(lines)} packages for Python {', '.join(by_python)}")


if __name__ == "__main__":
    main()
