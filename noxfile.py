"""Every check.  `make test` and the hosted CI run exactly these sessions; so can you.

All sessions but the ones that make their own small environments use `.venv`, so torch is installed
once.  Any nox will do, from whatever environment: a session first asks `make setup` for `.venv`,
which does nothing when it is there and fresh.

    .venv/bin/nox                        # all of it, with a summary at the end
    .venv/bin/nox -s tests -- -k reply   # one session; what follows -- goes to pytest
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "none"

ROOT = Path(__file__).resolve().parent
BIN = ROOT / ".venv" / "bin"
TYPED = ("packages", "tests", "eval_tasks", "ci", "bench", "recipes", "conftest.py", "noxfile.py")
# A test computes with one thread, so each core has a process of tests; a process takes up to 2 GiB.
# Every process makes the fixtures of a session that it needs: a run of neighbours stays together.
PARALLEL = ("--numprocesses", "logical", "--maxprocesses", "4", "--dist", "worksteal")
LIBRARIES = "import xmlgrpo_trainer.fit, xmlgrpo_trainer.finish, xmlgrpo_evaluator.harness.hf"


def run(session: nox.Session, tool: str, *arguments: str | Path, log: bool = True) -> None:
    """Run one of `.venv`'s tools, after making `.venv` where it is missing or stale."""
    session.run("make", "--silent", ".venv/.stamp", external=True, log=False)
    # The set-up leaves compiling to the first import.  Where Python is told to keep no bytecode,
    # every command that a test starts would compile torch and its company again: half a minute.
    kept = {"PYTHONDONTWRITEBYTECODE": None}
    session.run(str(BIN / tool), *arguments, env=kept, external=True, log=log)


@contextmanager
def compiling() -> Iterator[None]:
    """Import the libraries beside what keeps one core busy, the first time after the set-up.

    That compiles them; else every process of tests would, at the same time, by itself.
    """
    compiled = ROOT.glob(".venv/lib/*/site-packages/trl/__pycache__/*.pyc")
    if not (BIN / "python").exists() or any(compiled):
        yield
        return
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen([BIN / "python", "-c", LIBRARIES], env=kept, stderr=subprocess.DEVNULL):
        yield


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting and lint; changes no file (`make format` does)."""
    run(session, "ruff", "format", "--check", ".")
    run(session, "ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types, of the tests too."""
    with compiling():
        run(session, "mypy", *TYPED)


@nox.session
def imports(session: nox.Session) -> None:
    """Which way imports point between the packages and inside rewards."""
    run(session, "lint-imports")


@nox.session
def secrets(session: nox.Session) -> None:
    """No token, key or password in a tracked file."""
    run(session, "python", "-m", "ci.checks.secret_scan")


@nox.session
def tests(session: nox.Session) -> None:
    """Unit tests: seconds, no network, no model."""
    run(session, "pytest", *PARALLEL, *session.posargs)


@nox.session(default=False)
def locks(session: nox.Session) -> None:
    """The unit tests under both locks: in `.venv`, then on the newest libraries."""
    run(session, "pytest", *PARALLEL, *session.posargs)
    run(session, "python", "-m", "ci.checks.newest", *PARALLEL, *session.posargs)


@nox.session(name="tests-rewards")
def tests_rewards(session: nox.Session) -> None:
    """The rewards package with nothing else, on every supported Python found here."""
    run(session, "python", "-m", "ci.checks.rewards_alone", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Tests that train, merge or evaluate the tiny model on the CPU."""
    run(session, "pytest", *PARALLEL, "-m", "slow and not gguf and not gpu", *session.posargs)


@nox.session
def terminal(session: nox.Session) -> None:
    """Every command in a terminal of its own: widths, colours, a pipe, Ctrl-C."""
    # only their folder: to collect the others imports torch
    own = ("tests/terminal", "-m", "terminal and not gguf")
    run(session, "pytest", *PARALLEL, *own, *session.posargs)


@nox.session(default=False)
def adapters(session: nox.Session) -> None:
    """Our rewards in trl, verl and verifiers themselves; after --, one of them."""
    run(session, "python", "-m", "ci.checks.with_libraries", "adapters", *session.posargs)


@nox.session(default=False)
def trackers(session: nox.Session) -> None:
    """A short run into wandb, trackio and TensorBoard at once, and what each of them holds."""
    run(session, "python", "-m", "ci.checks.with_libraries", "trackers", *session.posargs)


@nox.session(default=False)
def notebook(session: nox.Session) -> None:
    """Every cell of docs/colab.ipynb in a real kernel, on the tiny model."""
    run(session, "python", "-m", "ci.checks.with_libraries", "notebook", *session.posargs)


@nox.session(default=False)
def browser(session: nox.Session) -> None:
    """Pages in a headless Chromium: they draw, ask for nothing, and axe finds nothing serious."""
    run(session, "pytest", "-m", "browser", *session.posargs)


@nox.session(default=False)
def scripts(session: nox.Session) -> None:
    """Rehearsals on the CPU of the scripts that measure on a GPU (bench/, recipes/)."""
    run(session, "pytest", "-m", "scripts", *session.posargs)


@nox.session
def wheels(session: nox.Session) -> None:
    """Each wheel, built, then installed and imported with what it declares and nothing else."""
    run(session, "python", "-m", "ci.checks.wheels")


@nox.session(default=False)
def gguf(session: nox.Session) -> None:
    """Tests that need llama.cpp; fails where `make gguf-setup` has not been run."""
    missing = "llama-cpp-python is not in .venv: run make gguf-setup first"
    check = (
        "import importlib.util, sys; sys.exit(None if importlib.util.find_spec('llama_cpp') else "
    )
    run(session, "python", "-c", f"{check}{missing!r})", log=False)
    run(session, "pytest", "-m", "gguf and not gpu", *session.posargs)


@nox.session(default=False)
def real(session: nox.Session) -> None:
    """Tests on real Gemma weights; fails where `make gguf-setup real-gemma` has not been run."""
    run(session, "pytest", "-m", "real", *session.posargs)


@nox.session(default=False)
def gpu(session: nox.Session) -> None:
    """Tests on a CUDA GPU; skipped where there is none, unless REQUIRE_GPU=1."""
    if os.environ.get("REQUIRE_GPU") != "1" and not Path("/dev/nvidia0").exists():
        session.skip("no GPU here (REQUIRE_GPU=1 makes this a failure)")
    missing = "torch sees no CUDA GPU: a driver, and a CUDA build of torch, are needed"
    check = "import sys, torch; sys.exit(None if torch.cuda.is_available() else "
    run(session, "python", "-c", f"{check}{missing!r})", log=False)
    run(session, "pytest", "-m", "gpu", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """The CPU benchmarks, bench/cpu; after --, the name of one and its arguments."""
    wanted, *arguments = session.posargs or ["*"]
    scripts = sorted(ROOT.glob(f"bench/cpu/{wanted}.py"))
    if not scripts:
        session.error(f"there is no bench/cpu/{wanted}.py")
    for script in scripts:
        run(session, "python", "-m", f"bench.cpu.{script.stem}", *arguments)
