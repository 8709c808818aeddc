"""The rewards in other trainers, each with its real library, as `nox -s adapters`.

trl is in `.venv`.  verl and verifiers pin what `.venv` has in other versions, so each gets an
environment of its own in `.nox`, kept for the next time; what it does not have, it takes from
`.venv` (torch among others).  Needs a package index the first time.

    python -m ci.checks.adapters              # all
    python -m ci.checks.adapters verifiers    # one
"""

import subprocess
import sys
from pathlib import Path

from ci.checks import environments

ROOT = environments.ROOT
LIBRARIES = {
    "trl": (),
    # without its dependencies, which would bring torch and transformers again
    "verl": (
        *("--no-deps", "verl==0.9.1", "tensordict==0.10.0", "pyvers", "orjson", "hydra-core"),
        *("omegaconf", "antlr4-python3-runtime==4.9.3", "ray>=2.41", "codetiming", "torchdata"),
        *("pylatexenc", "cloudpickle", "msgpack", "importlib_metadata", "zipp"),
    ),
    "verifiers": ("verifiers==0.4.0",),
}


def environment(library: str) -> Path:
    """The Python that has the library, made where it is not there yet."""
    wanted = LIBRARIES[library]
    if not wanted:
        return Path(sys.executable)
    return environments.beside_venv(f"adapters-{library}", wanted)


def main() -> int:
    """Run the tests of each library that is named, or of all; 1 where one failed."""
    failed = []
    for library in sys.argv[1:] or LIBRARIES:
        tests = f"tests/adapters/test_{library}.py"
        command = [str(environment(library)), "-m", "pytest", "-m", "adapters", tests]
        if subprocess.run(command, check=False, cwd=ROOT).returncode:
            failed.append(library)
    print(f"adapters: {', '.join(failed)} failed" if failed else "adapters: all passed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
