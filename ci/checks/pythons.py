"""Which of the supported Pythons this machine has."""

import re
import shutil
import subprocess
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13")


def find_pythons() -> dict[str, Path]:
    """The supported Pythons found, by version: on PATH first, then among pyenv's.

    A candidate counts only when it runs and says the version that its name promises: pyenv leaves
    a `python3.12` on PATH that does nothing but complain.
    """
    found: dict[str, Path] = {}
    for version in SUPPORTED:
        on_path = shutil.which(f"python{version}")
        candidates = [] if on_path is None else [Path(on_path)]
        candidates += sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        for candidate in candidates:
            if _version(candidate) == version:
                found[version] = candidate
                break
    return found


def _version(python: Path) -> str | None:
    ran = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
    match = re.match(r"Python (\d+\.\d+)\.", ran.stdout)
    return match[1] if ran.returncode == 0 and match else None
