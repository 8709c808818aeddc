"""Collect the wheels that a GPU machine without a network lacks.

    .venv/bin/python -m ci.offline.offline_wheels --there packages.txt --out .whl

It starts from this repository's packages, built from the tree, and follows what they and their
requirements ask for.  What the machine has in a fitting version stays behind; everything else is
fetched in the version of `ci/requirements/*.txt`.  So what arrives is complete, or this ends with
an error.  On that machine (`--no-deps`, because what is there already is not in the folder):

    python3 -m pip install --no-index --no-deps --target site .whl/*.whl
    export PYTHONPATH=$PWD/site
"""

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ci.checks.environments import PACKAGES, ROOT, build_wheel
from ci.offline.one_wheel import Machine, NotFoundError, fetch, keep, needs

LOCKS = ("base", "unsloth")
EXTRAS = {"trainer": ("unsloth",), "exporter": ("merge",)}
# xformers is built for another torch (Unsloth then uses torch's own attention), diffusers is for
# image models, and triton comes with torch's CUDA builds.
LEFT_OUT = ("xformers", "diffusers", "triton")


def main() -> None:
    """Fill the folder and say how large it is."""
    asked = parser().parse_args()
    machine = Machine(asked.python, asked.cuda, read_versions(asked.there))
    asked.out.mkdir(parents=True, exist_ok=True)
    for old in asked.out.glob("xmlgrpo_*.whl" if asked.ours else "*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        if asked.just:
            for package in asked.just:
                keep(fetch(package, machine, Path(scratch)), asked.out, machine)
        else:
            wheels = build_ours(Path(scratch), asked.out)
            if not asked.ours:
                collect(wheels, machine, asked.also, Path(scratch))
    sizes = [wheel.stat().st_size for wheel in asked.out.glob("*.whl")]
    print(f"{asked.out}: {len(sizes)} wheels, {sum(sizes) / 2**20:.1f} MiB")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument(
        "--there",
        type=Path,
        required=True,
        help="what the machine has: NAME or NAME==VERSION a line, such as its `pip freeze`",
    )
    made.add_argument("--out", type=Path, default=ROOT / ".whl", help="default: .whl/ in the root")
    made.add_argument("--python", default="3.12", help="its Python; default 3.12")
    made.add_argument("--cuda", default="130", help="of its torch, without the point; default 130")
    made.add_argument("--also", nargs="*", default=[], help="more packages, such as liger-kernel")
    parts = made.add_mutually_exclusive_group()
    parts.add_argument("--ours", action="store_true", help="only build our own wheels again")
    parts.add_argument("--just", nargs="+", help="exactly these packages, NAME==VERSION")
    return made


def read_versions(freeze: Path) -> dict[str, str | None]:
    """Names and versions of a `pip freeze`; a name may stand alone."""
    found: dict[str, str | None] = {}
    for line in freeze.read_text(encoding="utf-8").split():
        name, _, version = line.partition("==")
        found[canonicalize_name(name)] = version or None
    return found


def locked_versions(machine: Machine) -> dict[str, str]:
    """The versions of `ci/requirements` for the machine's Python."""
    found: dict[str, str] = {}
    for lock in LOCKS:
        text = (ROOT / "ci" / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate(machine.environment("")):
                found[canonicalize_name(wanted.name)] = str(wanted.specifier).removeprefix("==")
    return found


def build_ours(scratch: Path, out: Path) -> dict[str, Path]:
    """Build our packages into `out`; their wheels by canonical name."""
    built = {}
    for package in PACKAGES:
        wheel = build_wheel(package, scratch)
        built[f"xmlgrpo-{package}"] = Path(shutil.move(wheel, out / wheel.name))
    return built


def collect(wheels: dict[str, Path], machine: Machine, also: list[str], scratch: Path) -> None:
    """Fetch what `wheels` and `also` ask for and the machine lacks, and so on from there.

    Args:
        wheels: ours, by canonical name; the others come beside them.
        also: requirements of the command line.
        scratch: an empty folder for what is only passing through.

    Raises:
        NotFoundError: a package is in no lock, or what is carried does not fit a requirement.
    """
    out = next(iter(wheels.values())).parent
    locked = locked_versions(machine)
    wanted = [(Requirement(line), "the command line") for line in also]
    for package in PACKAGES:
        wanted += needs(wheels[f"xmlgrpo-{package}"], EXTRAS.get(package, ()), machine)
    followed: set[tuple[str, str]] = set()
    while wanted:
        asked, by = wanted.pop()
        name = canonicalize_name(asked.name)
        if name in LEFT_OUT or (name not in wheels and is_there(asked, by, machine)):
            continue
        if name not in wheels:
            version = locked.get(name) or str(asked.specifier).removeprefix("==")
            if not re.fullmatch(r"[\w.+!-]+", version):
                raise NotFoundError(
                    f"{asked}, for {by}, is in no lock: give --also {name}==VERSION"
                )
            fetched = fetch(f"{name}=={version}", machine, scratch)
            wheels[name] = keep(fetched, out, machine)
        version = wheels[name].name.split("-")[1]
        if not asked.specifier.contains(version, prereleases=True):
            raise NotFoundError(f"{by} wants {asked}, but version {version} is carried")
        for extra in asked.extras or {""}:
            if (name, extra) not in followed:
                followed.add((name, extra))
                wanted += needs(wheels[name], (extra,), machine)


def is_there(asked: Requirement, by: str, machine: Machine) -> bool:
    """Whether the machine has the package in a fitting version; an unknown version counts as one.

    What the command line asks for is carried in any case.
    """
    name = canonicalize_name(asked.name)
    if name not in machine.there or by == "the command line":
        return False
    version = machine.there[name]
    return version is None or asked.specifier.contains(version, prereleases=True)


if __name__ == "__main__":
    try:
        main()
    except NotFoundError as error:
        sys.exit(str(error))
