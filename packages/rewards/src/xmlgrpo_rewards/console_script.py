"""How every console script begins and ends: one line for what the user can correct, an exit code.

Every command of all packages ends through `run_command`, so bad input looks the same
everywhere: one `error:` line on stderr (what was expected, what was given, what to do), exit code
2, no traceback.  A `UserError` is raised before the expensive step, never after it.  Ctrl-C is exit
code 130 and one line that says what is kept; SIGTERM, which stops a job that no keyboard belongs
to, is 143 and the same line.
"""

import argparse
import atexit
import errno
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import NoReturn, TypeVar

from xmlgrpo_rewards.errors import UserError, is_output_lost
from xmlgrpo_rewards.prose import fitted, printable

N = TypeVar("N", int, float)

EXIT_USER_ERROR = 2
# of what is drawn, rows or replies: numpy's, whose generator transformers and lm-eval seed too
LARGEST_SEED = 2**32 - 1
KEPT = "what was finished before is kept; run the same command again"  # where no stage knows more
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK_FAILS = (errno.EIO, errno.ESTALE)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)
NOT_A_FILE = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP)  # something else stands in its place
ADVICE = {
    **dict.fromkeys(FORBIDDEN, "name a place that you may use"),
    **dict.fromkeys(NOT_A_FILE, "put back what stood there before"),
    # of a folder that was to be made
    errno.EEXIST: "it is no folder, move it away or name another place",
}
_signals: list[int] = []  # those that interrupted, also where a library dropped the exception
HUB_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}")


def path_argument(text: str) -> Path:
    """A path, for argparse; `~` is the user's home, in `--data=~/x` too, which no shell expands."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}; write the path out") from None


def seed_argument(text: str) -> int:
    """A seed, for argparse: what a generator of random numbers takes.

    Raises:
        UserError: it is none, said in one sentence, without argparse's usage.
    """
    if not (text.isdecimal() and len(text) <= 10 and int(text) <= LARGEST_SEED):
        raise UserError(f"--seed: expected a whole number from 0 to {LARGEST_SEED:,}, got {text!r}")
    return int(text)


def within(low: N, high: N) -> Callable[[str], N]:
    """A number from `low` to `high` and of their type, for argparse; NaN is in no range."""
    kind = type(low)

    def number(text: str) -> N:
        with suppress(ValueError):  # `int` and `float` have their own words for what is no number
            value = kind(text)
            if low <= value <= high:
                return value
        what = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"expected {what} from {low:,} to {high:,}, got {text!r}")

    return number


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled as Ctrl-C is."""


def interruption(number: int, *words: str) -> KeyboardInterrupt:
    """What ends a command that has taken note of a signal's number.

    Args:
        words: what is kept; without any, the block that it ends in says that.
    """
    return Terminated(*words) if number == signal.SIGTERM else KeyboardInterrupt(*words)


def interruption_code(stopped: KeyboardInterrupt) -> int:
    """The exit code of a command that a signal has ended: 128 and its number, as in a shell."""
    return 128 + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)


def run_command(command: Callable[[], int | None]) -> NoReturn:
    """Run a console script's body and leave the process with its exit code.

    Args:
        command: does the work; returns the exit code, or None for success.

    Raises:
        SystemExit: always.  2 for a `UserError`, a full or failing disk, a file that is forbidden
            or is none, 130 for Ctrl-C, 143 for SIGTERM, else what `command` returned.  Other
            exceptions pass through: they are bugs, and a bug's traceback is wanted.
    """
    _open_streams()
    _take_signals()
    # a notebook names its own for what it starts, and our environment does not have that one
    os.environ.pop("MPLBACKEND", None)
    try:
        refuse_tokens(sys.argv[1:])  # before a parser, which would repeat what it does not know
        code = _ended(command)
    except UserError as error:
        print_error(f"error: {error}")
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt as stopped:
        _leave(stopped)
    except BrokenPipeError:
        _drop_output()  # the reader (`| head`) has gone
        sys.exit(0)
    except OSError as error:
        sentence = _in_words(error)
        if sentence is None:
            raise
        print_error(f"error: {sentence}")
        sys.exit(EXIT_USER_ERROR)
    except BaseException as error:
        _leave_over_a_library(error)
        raise
    finally:
        atexit.register(_let_signals_end)  # what is registered last is called first
    sys.exit(code)


def _leave(stopped: KeyboardInterrupt) -> NoReturn:
    kept = stopped if stopped.args else KEPT
    print_error(f"{'terminated' if isinstance(stopped, Terminated) else 'interrupted'}: {kept}")
    sys.exit(interruption_code(stopped))


def _leave_over_a_library(error: BaseException) -> None:
    """Leave where a library's error is none of a bug; else come back."""
    if _signals and _is_of_an_import(error):
        _leave(interruption(_signals[-1]))
    if path := _damaged_bytecode(error):
        path.unlink(missing_ok=True)
        print_error(
            f"error: {path}: what Python compiled was cut short, as a full disk does it; the "
            "file is removed. Look at the disk's free space and run the same command again"
        )
        sys.exit(EXIT_USER_ERROR)
    if type(error).__name__ == "PanicException":  # of Rust, as of a tokenizer's own pattern
        print_error(f"error: a library gave up: {error}; is the model's folder what it should be?")
        sys.exit(EXIT_USER_ERROR)


def _ended(command: Callable[[], int | None]) -> int | str:
    """The exit code of a command, or of the parser that answers `--help` instead."""
    try:
        code: int | str = command() or 0
    except SystemExit as left:
        code = left.code or 0
    sys.stdout.flush()
    return code


def _in_words(error: OSError) -> str | None:
    """What the system refused, where the user can do something about it."""
    where = f"{str(error.filename or 'the output folder')[:200]}: {error.strerror}"
    if error.filename is None and is_output_lost():
        _drop_output()
        return (
            f"the standard output takes no more: {error.strerror}; what was finished before is "
            "kept. Send it somewhere else and run the same command again"
        )
    if error.errno in DISK_FULL:
        return (
            f"{where}; what was finished before is kept. Free some space and run the same command "
            "again"
        )
    if error.errno in DISK_FAILS:
        return (
            f"{where}; the disk failed, what was finished before is kept. Look at the disk and run "
            "the same command again"
        )
    advice = ADVICE.get(error.errno or 0) if error.filename else None
    return f"{where}; {advice}" if advice else None


def _damaged_bytecode(error: BaseException) -> Path | None:
    """The file of compiled Python that an import could not read.

    Python writes these files beside the libraries at the first import and takes a short write for
    a whole one (https://github.com/python/cpython/issues/126606): every later import then fails.
    """
    for frame in _frames(error):
        if frame.f_code.co_name == "_compile_bytecode" and frame.f_locals.get("bytecode_path"):
            return Path(frame.f_locals["bytecode_path"])
    return None


def _is_of_an_import(error: BaseException) -> bool:
    """Whether an import failed: torch's C++ drops Ctrl-C in numpy's, which is then half there."""
    return any(frame.f_code.co_name == "_find_and_load" for frame in _frames(error))


def _frames(error: BaseException | None) -> Iterator[FrameType]:
    """Where an error comes from, and those behind it: a lazy package raises one of its own."""
    while error:
        if not isinstance(error, MemoryError):  # it says nothing about the file that was read
            yield from (frame for frame, _line in walk_tb(error.__traceback__))
        error = error.__cause__ or error.__context__


def _drop_output() -> None:
    """Give what the interpreter flushes at its end somewhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_streams() -> None:
    """Give a standard stream that the caller has closed (`>&-`) somewhere to go.

    Python has None in its place, and the next file that is opened would get its number, and what a
    library prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # it gets the lowest number that is free: the stream's own
            null = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(null, True)  # noqa: FBT003 - it takes no keyword
            setattr(sys, name, os.fdopen(null, "w" if number else "r", encoding="utf-8"))


def _take_signals() -> None:
    _signals.clear()
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is to be ignored
        signal.signal(signal.SIGINT, _interrupt)


def _let_signals_end() -> None:
    """End at once at a signal that comes while libraries tidy up: in them it is a traceback."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    _signals.append(number)
    raise interruption(number)


def for_stdout(text: str) -> str:
    """What a model or a file says, for standard output: as it is, but on a terminal `printable`."""
    return printable(text) if sys.stdout.isatty() else text


def print_error(text: str) -> None:
    """Print on stderr: `printable`, and in lines that fit where that is a terminal."""
    text = printable(text)
    if sys.stderr.isatty():
        with suppress(OSError):
            text = fitted(text, os.get_terminal_size(sys.stderr.fileno()).columns)
    print(text, file=sys.stderr)


@contextmanager
def kept_on_interrupt(kept: str | Callable[[], str]) -> Iterator[None]:
    """What Ctrl-C says while this block runs: what is kept, and how to go on.

    The innermost block knows best; an outer one does not change its words.

    Args:
        kept: the words, or what makes them at Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt as stopped:
        if stopped.args:
            raise
        raise type(stopped)(kept if isinstance(kept, str) else kept()) from None


def this_command(*words: str) -> str:
    """A call of this same console script with other arguments, to be typed as it stands."""
    return shlex.join([sys.argv[0], *words])


def add_version(parser: argparse.ArgumentParser) -> None:
    """Let `parser` answer `--version` with `xmlgrpo-train 0.1.0`: all packages are one release."""
    text = f"%(prog)s {version('xmlgrpo-rewards')}"
    parser.add_argument("--version", action="version", version=text)


def refuse_tokens(argv: Sequence[str]) -> None:
    """Stop when an argument holds a Hub token, before anything can store the arguments.

    A command line is in the process list, the shell's history and a tracker's run file; a token
    comes from `HF_TOKEN` or the Hub login only.

    Raises:
        UserError: an argument holds one; the message does not repeat it.
    """
    for position, argument in enumerate(argv, start=1):
        if HUB_TOKEN.search(argument):
            raise UserError(
                f"argument {position} holds a Hugging Face token (hf_...). It is now in your "
                "shell's history: revoke it at https://huggingface.co/settings/tokens, make a new "
                "one and give it as HF_TOKEN in the environment or by `.venv/bin/hf auth login`"
            )
