"""What pip is doing, in a line every few seconds: how much is downloaded, unpacked, compiled.

    pip install ... 2>&1 | python ci/setup/narrate.py --log FILE WORDS

Every line goes into the log; errors and the large downloads are shown too.  On a terminal the
latest state is one line that is written over, elsewhere a line of its own.  Standard library only,
since it runs before anything is installed.
"""

import argparse
import os
import re
import selectors
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO
from urllib.parse import unquote

EVERY_S = {True: 1.0, False: 8.0}  # on a terminal, elsewhere
# pip names a file of PyPI, and the whole address elsewhere; with its platforms, either is longer
# than a narrow screen
LARGE = re.compile(r"Downloading (?:\S*/)?([^\s/-]+)-([^\s/-]+)\S* (\([\d.]+ [MG]B\))")
UNPACKING = re.compile(r"Installing collected packages: (.*)")
COMPILED = re.compile(r"\[(\d+)/(\d+)\] ")  # ninja's count
CANCELLED = "Operation cancelled by user"  # pip's word for Ctrl-C, which the caller tells


@dataclass
class State:
    """What is known of pip's work.

    Attributes:
        words: what is being done before anything is known.
        site: where packages are unpacked to.
        downloads: pip's temporary folder, where what it downloads grows.
    """

    words: str
    site: Path
    downloads: Path
    total: int = 0
    before: int = 0
    counted_s: float = 0.0
    compiled: int | None = None

    def __post_init__(self) -> None:
        self.began_s = time.monotonic()

    def read(self, line: str) -> None:
        """Take note of one of pip's lines."""
        if unpacked := UNPACKING.search(line):
            self._begin(unpacked[1].count(",") + 1)
            self.before = self._packages()
        elif compiled := COMPILED.search(line):
            if self.compiled is None:
                self._begin(int(compiled[2]))
            self.compiled, self.total = int(compiled[1]), int(compiled[2])

    def _begin(self, total: int) -> None:
        self.total, self.counted_s = total, time.monotonic()

    def shown(self) -> str:
        """The state in words."""
        passed = f"{_clock(time.monotonic() - self.began_s)} so far"
        if not self.total:
            mb = _bytes(self.downloads) / 1e6
            here = [f"{mb:,.0f} MB downloaded"] if mb >= 1 else []
            return ", ".join([self.words, *here, passed])
        if self.compiled is None:
            words, done = "packages unpacked", max(0, self._packages() - self.before)
        else:
            words, done = "files compiled", self.compiled
        done = min(done, self.total)
        seconds = time.monotonic() - self.counted_s
        left = [f"left {_clock(seconds * (self.total - done) / done)}"] if done else []
        return ", ".join([f"{done}/{self.total} {words}", passed, *left])

    def _packages(self) -> int:
        return sum(1 for _ in self.site.glob("*.dist-info"))


def _bytes(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # pip may have removed it meanwhile
                total += Path(root, name).stat().st_size
    return total


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


class Screen:
    """Where the state is shown: one line that is written over, or lines below one another."""

    def __init__(self, out: IO[str]) -> None:
        self.out = out
        self.is_drawn = out.isatty() and os.environ.get("TERM") != "dumb"
        self._pending = False

    def say(self, line: str, to: IO[str] | None = None) -> None:
        """A line that stays."""
        self._clear()
        print(line, file=to or self.out, flush=True)

    def state(self, line: str) -> None:
        """A line about how far it is."""
        if not self.is_drawn:
            self.say(f"  {line}")
            return
        columns = shutil.get_terminal_size().columns
        self.out.write(f"\r\x1b[2K{('  ' + line)[: columns - 1]}")
        self.out.flush()
        self._pending = True

    def _clear(self) -> None:
        if self._pending:
            self.out.write("\r\x1b[2K")
            self._pending = False

    close = _clear


def follow(source: int, log: IO[bytes], state: State, screen: Screen) -> None:
    """Read pip's output to its end."""
    every_s = EVERY_S[screen.is_drawn]
    selector = selectors.DefaultSelector()
    selector.register(source, selectors.EVENT_READ)
    rest, next_s = b"", time.monotonic() + every_s
    while True:
        ready = selector.select(max(0.0, next_s - time.monotonic()))
        if ready:
            chunk = os.read(source, 65536)
            log.write(chunk)
            *lines, rest = (rest + (chunk or b"\n")).split(b"\n")
            for line in lines:
                _tell(line.decode("utf-8", "replace").rstrip("\r"), state, screen)
            if not chunk:
                break
        if time.monotonic() >= next_s:
            screen.state(state.shown())
            next_s = time.monotonic() + every_s
    screen.close()


def _tell(line: str, state: State, screen: Screen) -> None:
    state.read(line)
    if large := LARGE.search(line):
        screen.say("  " + unquote(" ".join(large.groups())))
    elif ("ERROR" in line or "error:" in line) and CANCELLED not in line:
        screen.say(line, sys.stderr)


def main() -> None:
    """Entry point."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("words")
    options.add_argument("--log", type=Path, required=True)
    options.add_argument("--site", type=Path, default=Path("/nonexistent"))
    options.add_argument("--downloads", type=Path, default=Path("/nonexistent"))
    given = options.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # pip ends first; its last words are wanted
    with given.log.open("ab") as log:
        state = State(given.words, given.site, given.downloads)
        follow(sys.stdin.fileno(), log, state, Screen(sys.stdout))


if __name__ == "__main__":
    main()
