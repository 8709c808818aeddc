"""Tests that need libraries which `.venv` has not, or has in other versions, as `nox -s MARKER`.

Each gets an environment of its own in `.nox`, kept for the next time; what that does not have, it
takes from `.venv` (torch among others).  Needs a package index the first time.

    python -m ci.checks.with_libraries adapters              # our rewards in all other trainers
    python -m ci.checks.with_libraries adapters verifiers    # in one
    python -m ci.checks.with_libraries notebook -k colab     # what pytest is given
"""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ci.checks import environments


class Check(NamedTuple):
    """Tests, and what pip installs for them, with its options; nothing where `.venv` has all."""

    marker: str
    tests: str
    wanted: tuple[str, ...] = ()


CHECKS = {
    "trl": Check("adapters", "tests/adapters/test_trl.py"),
    "verl": Check(
        "adapters",
        "tests/adapters/test_verl.py",
        # without its dependencies, which would bring torch and transformers again
        (
            *("--no-deps", "verl==0.9.1", "tensordict==0.10.0", "pyvers", "orjson", "hydra-core"),
            *("omegaconf", "antlr4-python3-runtime==4.9.3", "ray>=2.41", "codetiming"),
            *("torchdata", "pylatexenc", "cloudpickle", "msgpack", "importlib_metadata", "zipp"),
        ),
    ),
    "verifiers": Check("adapters", "tests/adapters/test_verifiers.py", ("verifiers==0.4.0",)),
    # builds llama.cpp where `make gguf-setup` has not
    "notebook": Check(
        "notebook",
        "tests/end_to_end/test_notebook.py",
        ("nbclient>=0.10", "ipykernel>=6.29", "nbformat>=5.10"),
    ),
    # trackio asks for an older pillow than `.venv` has; most dependencies are there
    "trackers": Check(
        "trackers",
        "tests/end_to_end/test_tracked_run.py",
        (
            *("--no-deps", "trackio==0.43.0", "gradio-client>=2", "brotli", "orjson"),
            *("python-multipart", "starlette<2", "uvicorn", "tensorboard==2.21.0"),
            *("tensorboard-data-server", "grpcio", "markdown", "werkzeug"),
        ),
    ),
}


def main() -> int:
    """Run the tests of a marker, or of those that are named too; 1 where one failed."""
    marker, *words = sys.argv[1:]
    checks = {name: check for name, check in CHECKS.items() if check.marker == marker}
    options = [word for word in words if word not in checks]
    failed = []
    for name in [word for word in words if word in checks] or checks:
        check, python = checks[name], Path(sys.executable)
        if check.wanted:
            python = environments.beside_venv(name, check.wanted)
        command = [str(python), "-m", "pytest", "-m", marker, check.tests, *options]
        if subprocess.run(command, check=False, cwd=environments.ROOT).returncode:
            failed.append(name)
    print(f"{marker}: {', '.join(failed)} failed" if failed else f"{marker}: all passed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
