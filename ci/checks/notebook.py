"""docs/colab.ipynb, run to its end on the tiny model, as `nox -s notebook`.

Jupyter is needed by nothing else, so it gets an environment beside `.venv`.  Needs a package index
the first time, and builds llama.cpp where `make gguf-setup` has not.
"""

import subprocess
import sys

from ci.checks import environments

WANTED = ("nbclient>=0.10", "ipykernel>=6.29", "nbformat>=5.10")


def main() -> int:
    """Run the test; pytest's exit code."""
    python = environments.beside_venv("notebook", WANTED)
    command = [str(python), "-m", "pytest", "-m", "notebook", "tests/end_to_end/test_notebook.py"]
    return subprocess.run([*command, *sys.argv[1:]], check=False, cwd=environments.ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
