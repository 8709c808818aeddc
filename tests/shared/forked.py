"""Console scripts in forks of a process that has loaded the libraries.

A new Python spends seven CPU seconds on importing torch, trl and peft, more than most of the runs
that tests start.  Where a test is not of how a command begins, a fork of a process that has
imported them is as good as one: it has done nothing else, so that there is no thread in it, no
gradient and no random number.  What a library reads from the environment when it is imported
(HF_HOME, HF_ENDPOINT) is what it was at the first start, and quiet, as our commands make it.
"""

import fcntl
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import termios
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from xmlgrpo_run.screen.console import QUIET

FORK_RANKS = "import forked; forked.fork_ranks()"
"""What a launcher runs first, to start its processes without seconds of imports in each."""
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("xmlgrpo_trainer.fit", "xmlgrpo_trainer.finish", "peft", "matplotlib.pyplot"),
        *("transformers.models.gemma3.modeling_gemma3", "accelerate.commands.launch"),
        "xmlgrpo_evaluator.harness.hf",
    ]
)


def start(
    words: Sequence[object],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    output: Path | Connection | None = None,
    errors: Path | Connection | None = None,
    before: str = "",
) -> ForkServerProcess:
    """Start a console script, ours or a library's, at the head of a session of its own.

    Args:
        words: its name and its arguments.
        folder: its working folder.
        environment: all of its variables; this process's where none is given.
        output: a file for what it prints, or the writing end of a pipe or of a terminal, which then
            is its own; without one that is lost.
        errors: the same for its standard error, which else goes where `output` does.
        before: Python that the process runs first.
    """
    variables = dict(os.environ if environment is None else environment)
    given = {"output": output, "errors": errors, "before": before}
    arguments = (tuple(map(str, words)), str(folder), variables)
    process = CONTEXT.Process(target=_run, args=arguments, kwargs=given)
    with patch.dict(os.environ, QUIET):  # which libraries read when they are imported
        process.start()
    return process


def run(
    words: Sequence[object],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    before: str = "",
) -> "subprocess.CompletedProcess[str]":
    """Run a console script to its end; the arguments are those of `start`."""
    with TemporaryDirectory() as made:
        output, errors = Path(made, "output"), Path(made, "errors")
        process = start(
            words, folder, environment=environment, output=output, errors=errors, before=before
        )
        process.join()
        assert process.exitcode is not None
        printed = (output.read_text(encoding="utf-8"), errors.read_text(encoding="utf-8"))
        return subprocess.CompletedProcess([*map(str, words)], process.exitcode, *printed)


def fork_ranks() -> None:
    """Have torchrun, in this process, fork the processes that it starts.

    They are as fresh as a fork can be: no file but the standard three, no handler of a signal.
    """
    from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

    setattr(SubprocessHandler, "_popen", _forked)  # noqa: B010 - mypy allows no other way


def _forked(
    _: object, arguments: tuple[str, ...], environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    words = arguments[arguments.index("-m") + 1 :]  # after Python and -u
    return subprocess.Popen(
        arguments,
        start_new_session=True,
        preexec_fn=lambda: _rank(words, environment),  # noqa: PLW1509 - it never returns
    )


def _rank(words: Sequence[str], environment: dict[str, str]) -> None:
    os.closerange(3, 4096)  # so that whoever forked knows that the process has started, too
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.disable(logging.NOTSET)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(words)
    code: object = 1
    try:
        import_module(words[0]).main()
    except SystemExit as ended:
        code = ended.code or 0
    except Exception:  # noqa: BLE001 - as a Python that ends with it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)


def _run(
    words: tuple[str, ...],
    folder: str,
    environment: dict[str, str],
    *,
    output: Path | Connection | None,
    errors: Path | Connection | None,
    before: str,
) -> None:
    os.setsid()
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(_opened(output or Path(os.devnull)), 1)
    os.dup2(1 if errors is None else _opened(errors), 2)
    if os.isatty(1):
        fcntl.ioctl(1, termios.TIOCSCTTY, 0)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what is read meanwhile
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(words)
    exec(before, {})  # noqa: S102 - the test's own
    [script] = entry_points(group="console_scripts", name=Path(words[0]).name)
    script.load()()


def _opened(place: Path | Connection) -> int:
    if isinstance(place, Connection):
        return place.fileno()
    return os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
