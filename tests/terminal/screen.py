"""A command on a screen of its own: started, typed at, and recorded byte for byte.

`pexpect` gives it a real pseudo-terminal, so that it meets what it meets in a person's hands: a
width, a TERM, a Ctrl-C that comes from the keyboard.  `shown.py` tells what the bytes looked like.
"""

import os
import pty
import signal
import subprocess
import sys
import termios
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pexpect
import psutil
import pytest
from pexpect.fdpexpect import fdspawn

import forked

ROWS = 40
PATIENCE_S = 240  # for anything that is waited for; a busy machine must not fail a test
LAST_CHARACTERS = 2000  # of what was written, in a failure's message
CTRL_C = b"\x03"
ROOT = Path(__file__).resolve().parents[2]
# The real recipe, narrower and far too short: it writes the tags now and then.
TINY = (
    *("model.tiny.hidden_size=64", "model.tiny.head_dim=16", "model.tiny.mlp_size=192"),
    *("model.tiny.warm_threads=1", "lora.r=4", "lora.lora_alpha=8"),
    *("data.generated_rows=64", "holdout.report_rows=24", "holdout.validation_rows=16"),
    *("holdout.every=2", "holdout.batch_size=64", "watch.samples_every=2"),
    *("grpo.per_device_train_batch_size=16", "grpo.num_generations=4"),
    *("grpo.max_completion_length=24", "grpo.save_steps=2"),
)
# what would tell a command about the screen that pytest runs on, or about pytest
NOT_INHERITED = {
    *("COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"),
    *("TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM", "TERM_PROGRAM"),
    *("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS"),
}


@dataclass(frozen=True, slots=True)
class Screen:
    """What a command writes to: a terminal of so many columns, or a pipe."""

    columns: int = 80
    term: str = "xterm-256color"
    no_color: bool = False
    is_pipe: bool = False


SCREENS = {
    "80": Screen(80),
    "100": Screen(100),
    "120": Screen(120),
    "dumb": Screen(term="dumb"),
    "no-color": Screen(no_color=True),
    "pipe": Screen(is_pipe=True),
}
on_every_screen = pytest.mark.parametrize("screen", SCREENS.values(), ids=SCREENS)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that came at once, with two clocks: the wall's, and the command's own CPU seconds."""

    wall_s: float
    cpu_s: float
    content: bytes


@dataclass(frozen=True, slots=True)
class Recording:
    """A command that has ended: all that it wrote and the exit code that a shell shows."""

    command: str
    screen: Screen
    pieces: tuple[Piece, ...]
    code: int

    @property
    def raw(self) -> bytes:
        """Every byte."""
        return b"".join(piece.content for piece in self.pieces)


def script(name: str) -> str:
    """The path of one of our console scripts, or of another one beside this Python."""
    return str(Path(sys.executable).with_name(name))


def train(run: str, *, max_steps: int, warm_steps: int = 40) -> list[str]:
    """`make train`, with a model and steps that take seconds."""
    overrides = [*TINY, f"grpo.max_steps={max_steps}", f"model.tiny.warm_steps={warm_steps}"]
    return [script("xmlgrpo-train"), "--config", "configs/tiny.yaml", "--run", run, *overrides]


@dataclass
class Recorder:
    """Takes what pexpect reads, as its log file, and looks at the clocks."""

    process: psutil.Process
    pieces: list[Piece] = field(default_factory=list)

    def write(self, content: bytes) -> None:
        cpu_s = max(self.cpu_s(), self.pieces[-1].cpu_s if self.pieces else 0.0)
        self.pieces.append(Piece(time.monotonic(), cpu_s, content))

    def flush(self) -> None:
        """Asked for by pexpect."""

    def processes(self) -> list[psutil.Process]:
        """The command and all that it has started and that still runs."""
        return [self.process, *self.process.children(recursive=True)]

    def cpu_s(self) -> float:
        """CPU seconds of the command and of all that it has started and that still runs."""
        total_s = 0.0
        with suppress(psutil.Error):  # one of them has just ended
            for process in self.processes():
                times = process.cpu_times()
                total_s += times.user + times.system
                total_s += times.children_user + times.children_system
        return total_s


class Running:
    """A command that is running, and the person before it; `end` waits for its end."""

    def __init__(
        self,
        words: Sequence[str | Path],
        screen: Screen,
        child: "pexpect.spawn[bytes] | fdspawn[bytes]",
        process: "subprocess.Popen[bytes] | ForkServerProcess | None",
    ) -> None:
        self.command = " ".join(Path(str(word)).name for word in words)
        self.screen = screen
        self._child, self._process = child, process
        pid = process.pid if process else child.pid
        self._recorder = Recorder(psutil.Process(pid))
        self._recorder.write(b"")  # the silence before the first word counts
        child.logfile_read = self._recorder

    def until(self, *words: str) -> None:
        """Wait until one of these regular expressions has been written."""
        patterns = [word.encode() for word in words]
        found = self._child.expect([*patterns, pexpect.EOF, pexpect.TIMEOUT])
        if found >= len(patterns):
            how = "ended" if found == len(patterns) else f"wrote for {PATIENCE_S} s"
            pytest.fail(f"{self.command} {how} without {words}; it wrote:\n{self._written()}")

    def until_it_loads(self, library: str) -> None:
        """Wait until a file of this name is in its memory, or in that of a process it started."""
        self._until_one(lambda process: any(library in each.path for each in process.memory_maps()))

    def until_it_starts(self, words: str) -> None:
        """Wait until a process of this command line runs."""
        self._until_one(lambda process: words in " ".join(process.cmdline()))

    def _until_one(self, is_it: Callable[[psutil.Process], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with suppress(psutil.Error):  # one of them has just ended
                for process in self._recorder.processes():
                    if is_it(process):
                        return
            time.sleep(0.002)
        pytest.fail(f"{self.command} has no such process in {PATIENCE_S} s:\n{self._written()}")

    def type_line(self, words: str) -> None:
        """Words and the return key; on a terminal only."""
        self._child.sendline(words)

    def press_ctrl_c(self) -> None:
        """The key of a terminal; where there is none, the signal that it would be."""
        if isinstance(self._process, subprocess.Popen):
            self._process.send_signal(signal.SIGINT)
        else:
            self._child.send(CTRL_C)

    def end(self) -> Recording:
        """Wait for the end."""
        if self._child.expect([pexpect.EOF, pexpect.TIMEOUT]):
            pytest.fail(f"{self.command} did not end in {PATIENCE_S} s:\n{self._written()}")
        self._recorder.write(b"")  # so does that after the last
        if isinstance(self._process, subprocess.Popen):
            code = self._process.wait(PATIENCE_S)
        elif self._process:
            self._process.join(PATIENCE_S)
            assert self._process.exitcode is not None
            code = self._process.exitcode
        else:
            assert isinstance(self._child, pexpect.spawn)
            code = self._child.wait()
            if self._child.signalstatus is not None:
                code = -self._child.signalstatus
        shell_code = code if code >= 0 else 128 - code
        return Recording(self.command, self.screen, tuple(self._recorder.pieces), shell_code)

    def _written(self) -> str:
        raw = b"".join(piece.content for piece in self._recorder.pieces)
        return raw.decode(errors="replace")[-LAST_CHARACTERS:]


def _hear_the_terminal_close() -> None:
    """As at a person's terminal, also where pytest runs under nohup, which its children inherit."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextmanager
def started(
    words: Sequence[str | Path],
    screen: Screen,
    *,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    loaded: bool = False,
) -> Iterator[Running]:
    """Start a command on a screen; what still runs at the end is killed.

    Args:
        words: a console script and its arguments.
        screen: where it runs.
        cwd: its working folder.
        environment: variables beside this process's.
        loaded: in a fork of a process that has the libraries loaded.  One screen at least should
            see the command begin as a person does; on the others that costs seconds for nothing.
    """
    own = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    own |= {"LC_ALL": "C.UTF-8", "TERM": screen.term, "HF_HUB_OFFLINE": "1"}
    if screen.no_color:
        own["NO_COLOR"] = "1"
    own |= environment or {}
    if loaded:
        reading, writing = os.pipe() if screen.is_pipe else pty.openpty()
        if not screen.is_pipe:
            termios.tcsetwinsize(writing, (ROWS, screen.columns))
        with Connection(writing, readable=False) as output:
            forks = forked.start(words, cwd, environment=own, output=output)
        try:
            yield Running(words, screen, fdspawn(reading, timeout=PATIENCE_S), forks)
        finally:
            forks.kill()
            os.close(reading)
        return
    program, *arguments = map(str, words)
    if screen.is_pipe:
        with subprocess.Popen(
            [program, *arguments],
            cwd=cwd,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            try:
                assert process.stdout is not None
                yield Running(words, screen, fdspawn(process.stdout, timeout=PATIENCE_S), process)
            finally:
                process.kill()
        return
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside pytest-xdist's threads; the child execs at once
        warnings.simplefilter("ignore", DeprecationWarning)
        child: pexpect.spawn[bytes] = pexpect.spawn(
            program,
            arguments,
            cwd=str(cwd),
            env=own,
            timeout=PATIENCE_S,
            dimensions=(ROWS, screen.columns),
            preexec_fn=_hear_the_terminal_close,
        )
    try:
        yield Running(words, screen, child, None)
    finally:
        child.close(force=True)


def record(
    words: Sequence[str | Path],
    screen: Screen,
    *,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    loaded: bool = False,
) -> Recording:
    """Run a command to its end; the arguments are those of `started`."""
    with started(words, screen, cwd=cwd, environment=environment, loaded=loaded) as running:
        return running.end()
