"""A short run into every tracker at once, read back, as `nox -s trackers`.

trackio asks for an older pillow than `.venv` has, and TensorBoard is not needed by anything else:
both get an environment beside `.venv`.  Needs a package index the first time.
"""

import subprocess
import sys

from ci.checks import environments

# without their dependencies, most of which `.venv` has
WANTED = (
    *("--no-deps", "trackio==0.43.0", "gradio-client>=2", "brotli", "orjson"),
    *("python-multipart", "starlette<2", "uvicorn", "tensorboard==2.21.0"),
    *("tensorboard-data-server", "grpcio", "markdown", "werkzeug"),
)


def main() -> int:
    """Run the tests; pytest's exit code."""
    python = environments.beside_venv("trackers", WANTED)
    command = [
        str(python),
        "-m",
        "pytest",
        "-m",
        "trackers",
        "tests/end_to_end/test_tracked_run.py",
    ]
    return subprocess.run([*command, *sys.argv[1:]], check=False, cwd=environments.ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
