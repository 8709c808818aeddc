"""Every stage by the command that a user gives, in a process of its own and without the Hub."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
GATES = {"file", "tokens", "one_bos", "template", "stop", "answers", "distance", "greedy"}


def command(name: str, *words: object, **environment: str) -> str:
    """What one of our commands printed, which must have ended well."""
    ran = subprocess.run(
        [str(BIN / name), *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-6000:]
    return ran.stdout
