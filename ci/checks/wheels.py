"""Build the wheels; install and import each with what it declares, and nothing else.

They are tried beside each other, one a core.  Run it as `nox -s wheels`.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ci.checks import environments
from ci.checks.environments import PACKAGES

FLOORS = ("rewards", "run", "gguf", "rollout")  # what the others may stand on
EXTRAS = {"rollout": "engine", "gguf": "engine"}  # without which some modules cannot be imported

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
left_out = 0
for name in names:
    if name.endswith("__main__"):
        continue
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "triton":  # it comes with torch's CUDA builds, and what needs it says so
            raise
        left_out += 1
print(f"  {len(names) + 1 - left_out} modules imported, {left_out} need Triton")
"""


def main() -> None:
    """Build, install, `pip check` and import, package by package."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:
        place = Path(scratch)
        built = pool.map(lambda name: environments.build_wheel(name, place / "dist"), PACKAGES)
        wheels = dict(zip(PACKAGES, built, strict=True))
        for said in pool.map(lambda name: _tried(name, wheels, place / name), PACKAGES):
            print(said, end="", flush=True)


def _tried(package: str, wheels: Mapping[str, Path], home: Path) -> str:
    """Install a wheel and what it may stand on, import its modules; returns what there is to say.

    Raises:
        subprocess.CalledProcessError: it lacks something, and pip or Python has said what.
    """
    wheel = wheels[package]
    python = environments.create(home, Path(sys.executable))
    install = ("install", "--quiet", "--no-index", "--no-deps")
    environments.pip(python, *install, *{*(wheels[floor] for floor in FLOORS), wheel})
    environments.link_requirements(python, EXTRAS.get(package, ""))
    checked = environments.pip(python, "check")
    # -I: not the checkout, not PYTHONPATH; what is imported is what was installed
    imported = subprocess.run(
        [python, "-I", "-c", IMPORT_ALL, f"xmlgrpo_{package}"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return f"{wheel.name}, {wheel.stat().st_size / 1024:.0f} KiB\n{checked}{imported.stdout}"


if __name__ == "__main__":
    main()
