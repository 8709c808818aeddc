"""Build the wheels; install and import each with what it declares, and nothing else.

Run it as `nox -s wheels`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from ci.checks import environments

PACKAGES = (
    "rewards",
    "run",
    "gguf",
    "rollout",
    "trainer",
    "evaluator",
    "exporter",
    "tasks",
    "viewer",
)
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
    with tempfile.TemporaryDirectory() as scratch:
        wheels = {p: environments.build_wheel(p, Path(scratch) / "dist") for p in PACKAGES}
        for package, wheel in wheels.items():
            print(f"{wheel.name}, {wheel.stat().st_size / 1024:.0f} KiB", flush=True)
            python = environments.create(Path(scratch) / package, Path(sys.executable))
            install = ("install", "--quiet", "--no-index", "--no-deps")
            environments.pip(python, *install, *{*(wheels[floor] for floor in FLOORS), wheel})
            environments.link_requirements(python, EXTRAS.get(package, ""))
            environments.pip(python, "check")
            # -I: not the checkout, not PYTHONPATH; what is imported is what was installed
            subprocess.run([python, "-I", "-c", IMPORT_ALL, f"xmlgrpo_{package}"], check=True)


if __name__ == "__main__":
    main()
