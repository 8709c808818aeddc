"""One wheel: fetched for another machine, made smaller, and asked what it needs there."""

import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Parts of wheels that are useless there and large: other CUDA versions' libraries, a web
# application, thousands of evaluation tasks that nothing here names.
DROPPED = {
    "bitsandbytes": r"bitsandbytes/libbitsandbytes_(cuda(?!{cuda}\.)|rocm|xpu)",
    "unsloth": r"studio/",
    "lm-eval": r"lm_eval/tasks/(?!gsm8k/)[^/]+/",
}
PLATFORMS = ("2_17", "2_24", "2_27", "2_28")


class NotFoundError(Exception):
    """A package cannot be had for the machine."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the wheels are for.

    Attributes:
        python: its version, "3.12".
        cuda: the version of its CUDA libraries, without the point: "130".
        there: packages that it has, by canonical name; the version is None where unknown.
    """

    python: str
    cuda: str
    there: dict[str, str | None]

    def environment(self, extra: str) -> dict[str, str]:
        """The values of a requirement's markers."""
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "platform_machine": "x86_64",
            "platform_python_implementation": "CPython",
            "extra": extra,
        }


def needs(wheel: Path, extras: tuple[str, ...], machine: Machine) -> list[tuple[Requirement, str]]:
    """What a wheel asks for on the machine, with the wheel's name."""
    with zipfile.ZipFile(wheel) as members:
        (metadata,) = (n for n in members.namelist() if n.endswith(".dist-info/METADATA"))
        lines = BytesParser().parsebytes(members.read(metadata)).get_all("Requires-Dist", [])
    return [
        (asked, wheel.name.split("-")[0])
        for asked in map(Requirement, lines)
        if asked.marker is None
        or any(asked.marker.evaluate(machine.environment(extra)) for extra in ("", *extras))
    ]


def fetch(asked: str, machine: Machine, scratch: Path) -> Path:
    """Download a wheel for the machine; a package without wheels is built, if it is plain Python.

    Raises:
        NotFoundError: what was built is for one platform only.
    """
    folder = Path(tempfile.mkdtemp(dir=scratch))
    pip = [sys.executable, "-m", "pip"]
    for_it = ["--only-binary=:all:", "--implementation=cp", f"--python-version={machine.python}"]
    for_it += [f"--platform=manylinux_{number}_x86_64" for number in PLATFORMS]
    for_it += [f"--platform=manylinux{number}_x86_64" for number in (1, 2014)]
    quiet = ["--quiet", "--quiet", "--no-deps"]
    download = [*pip, "download", *quiet, *for_it, "--dest", str(folder), asked]
    if subprocess.run(download, capture_output=True, check=False).returncode:
        subprocess.run([*pip, "wheel", *quiet, "--wheel-dir", str(folder), asked], check=True)
    (wheel,) = folder.glob("*.whl")
    if not wheel.stem.endswith(("x86_64", "none-any")):
        raise NotFoundError(f"there is no wheel of {asked} for the machine")
    return wheel


def keep(wheel: Path, out: Path, machine: Machine) -> Path:
    """Put a wheel into `out`, without the parts that are of no use there."""
    name = canonicalize_name(wheel.name.split("-")[0])
    dropped = re.compile(DROPPED.get(name, r"(?!)").format(cuda=machine.cuda))
    kept = out / wheel.name
    with (
        zipfile.ZipFile(wheel) as old,
        zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new,
    ):
        for member in old.infolist():
            if dropped.match(member.filename):
                continue
            data = old.read(member)
            if member.filename.endswith(".dist-info/RECORD"):
                lines = data.decode().splitlines(keepends=True)
                data = "".join(line for line in lines if not dropped.match(line)).encode()
            new.writestr(member, data)
    return kept
