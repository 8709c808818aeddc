"""What a person saw of a recording, and the rules that hold for every command on every screen."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyte

from .screen import Recording

PIPE_COLUMNS = 2000  # a line in a pipe may be as long as it likes
SILENCE_S = 10.0
ESCAPE = b"\x1b"
COLOUR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
BARE_RETURN = re.compile(rb"\r(?![\r\n])")  # goes back to overwrite: not a line of its own

NUMBER = r"[+-]?\d[\d,.:/]*"
UNIT = r"(?:%|s|ms|h|min|B|kB|MB|GB|KiB|MiB|GiB|steps?|tokens?|rows?|points?|items?)"
# what is read as one: a number and its unit, a time left, an interval, two sides of a comparison
FIGURES = (
    re.compile(rf"{NUMBER}\s+(?:{UNIT}(?:/\w+)?)(?![\w-])"),
    re.compile(rf"\bleft\s+{NUMBER}|{NUMBER}\s+left\b"),
    re.compile(rf"\[\s*{NUMBER}\s?%?(?:,|\s+to)\s*{NUMBER}\s?%?\s*\]"),
    re.compile(rf"{NUMBER}\s?%?\s+\[\s*{NUMBER}"),
    re.compile(rf"{NUMBER}\s+\({NUMBER}"),
    re.compile(r"\(\d[^()]{0,20}\)"),
)
OPEN_INTERVAL = re.compile(r"[\[(]\s*[+-]?\d[^\])]*$")  # of a table's cell that goes on below
PACE = re.compile(r"\d/\d[\d,.]* \w+ .*(?:\d/s|\d s each) .*left \d+:\d\d:\d\d")
KEPT = re.compile(r"\b(?:kept|saved|nothing|no \w+)\b.*\b(?:again|same command)\b", re.IGNORECASE)
WARNING = re.compile(r"\b\w+Warning: ")
CELLS = re.compile("[│┃|]")


class _Paper(pyte.Screen):
    """A screen so tall that nothing scrolls away; it notes what was there and what did not fit."""

    def __init__(self, columns: int, lines: int) -> None:
        self.seen: dict[str, None] = {}
        self.wrapped: list[str] = []
        super().__init__(columns, lines)

    def carriage_return(self) -> None:
        self._note()
        super().carriage_return()

    def linefeed(self) -> None:
        self._note()
        super().linefeed()

    def erase_in_line(self, how: int = 0, private: bool = False) -> None:
        self._note()
        super().erase_in_line(how, private)

    def _note(self) -> None:
        self.seen[self.line(self.cursor.y)] = None

    def draw(self, data: str) -> None:
        for character in data:
            if self.cursor.x >= self.columns and self._was_cut(character):
                self.wrapped.append(self.line(self.cursor.y))
            super().draw(character)

    def _was_cut(self, character: str) -> bool:
        """Whether a line goes on that could have ended: a word longer than a line cannot."""
        line = self.line(self.cursor.y)
        return character == " " or " " in line.strip()

    def line(self, number: int) -> str:
        row = self.buffer[number]
        return "".join(row[x].data for x in range(self.columns)).rstrip()


@dataclass(frozen=True, slots=True)
class Shown:
    """What was on the screen.

    Attributes:
        lines: what is left when the command has ended.
        seen: every line that was ever there, bars too, in the order of their first appearance.
        wrapped: lines whose text went on past the last column.
    """

    lines: tuple[str, ...]
    seen: tuple[str, ...]
    wrapped: tuple[str, ...]

    @property
    def text(self) -> str:
        """The lines that are left, as one text."""
        return "\n".join(self.lines)


def replay(recording: Recording) -> Shown:
    """Put the recorded bytes on a screen of the same width."""
    is_pipe = recording.screen.is_pipe
    width = PIPE_COLUMNS if is_pipe else recording.screen.columns
    paper = _Paper(width, recording.raw.count(b"\n") + 100)
    stream = pyte.ByteStream(paper)
    # a terminal makes a line's end of what a program writes; a pipe leaves that to the reader
    stream.feed(recording.raw.replace(b"\n", b"\r\n") if is_pipe else recording.raw)
    lines = [paper.line(number) for number in range(paper.cursor.y + 1)]
    while lines and not lines[-1]:
        lines.pop()
    return Shown(tuple(lines), tuple(paper.seen), tuple(paper.wrapped))


def broken_figures(lines: Sequence[str], columns: int) -> list[str]:
    """Figures of which a part stands on one line and the rest on the next.

    A line goes on below when the next word did not fit; in a table it does inside of a cell.
    """
    broken = []
    for above, below in pairwise(lines):
        if CELLS.search(above):
            cells = [cell.strip() for cell in CELLS.split(above)]
            broken += [cell for cell in cells if OPEN_INTERVAL.search(cell)]
            continue
        next_word = below.split()[0] if below.strip() else ""
        is_table = len(above) == len(below) and all("  " in line.strip() for line in (above, below))
        if is_table or len(above) + 1 + len(next_word) <= columns:
            continue
        joined, seam = f"{above} {below.lstrip()}", len(above)
        broken += [
            found.group()
            for figure in FIGURES
            for found in figure.finditer(joined)
            if found.start() < seam < found.end()
        ]
    return broken


def check(recording: Recording, code: int = 0) -> Shown:
    """Hold a recording to what every command owes every screen; returns what was shown.

    The exit code, no traceback, no library's warning, no long silence, no line that does not fit,
    no figure in two parts, and no more control codes than the screen understands.
    """
    shown, raw, screen = replay(recording), recording.raw, recording.screen
    about = f"{recording.command} on {screen} showed:\n{shown.text}"
    assert recording.code == code, f"exit code {recording.code}, expected {code}; {about}"
    assert "Traceback (most recent call last)" not in shown.text, about
    assert not WARNING.search(shown.text), f"a library's warning; {about}"
    silence_s, meanwhile = longest_silence(recording)
    assert silence_s < SILENCE_S, f"{silence_s:.0f} s of silence at {meanwhile!r}; {about}"
    if screen.is_pipe or screen.term == "dumb":
        assert ESCAPE not in raw, f"an escape code: {around(ESCAPE, raw)!r}; {about}"
        assert not BARE_RETURN.search(raw), f"overwritten: {around(BARE_RETURN, raw)!r}; {about}"
    if screen.no_color:
        assert not COLOUR.search(raw), f"a colour: {around(COLOUR, raw)!r}; {about}"
    if not screen.is_pipe:
        assert not shown.wrapped, f"wider than the screen: {shown.wrapped}; {about}"
        broken = broken_figures(shown.lines, screen.columns)
        assert not broken, f"in two parts: {broken}; {about}"
    return shown


def around(what: bytes | re.Pattern[bytes], raw: bytes) -> bytes:
    """The first place of a control code, with what stands beside it."""
    found = re.search(what, raw)
    return raw[max(0, found.start() - 30) : found.end() + 30] if found else b""


def longest_silence(recording: Recording) -> tuple[float, str]:
    """The longest time without a sign of life, in seconds, and the line that stood there meanwhile.

    A wait counts as the shorter of its wall time and of the command's own CPU time: on a busy
    machine the first says little about the command, with several threads the second does.
    """
    longest, written = (0.0, ""), b""
    for before, after in pairwise(recording.pieces):
        written += before.content
        last_line = written.decode(errors="replace").strip().rpartition("\n")[2]
        wait_s = min(after.wall_s - before.wall_s, after.cpu_s - before.cpu_s)
        longest = max(longest, (wait_s, last_line))
    return longest


def interrupted(recording: Recording) -> str:
    """Hold a recording of a Ctrl-C to the rules; returns the sentence that it ended with.

    The sentence says what is kept or that nothing was to be kept, and what to do.
    """
    shown = check(recording, code=130)
    before, mark, after = " ".join(line.strip() for line in shown.lines).rpartition("interrupted: ")
    assert mark, f"nothing is said of the interruption: {shown.text}"
    assert "interrupted" not in before, f"it is said twice: {shown.text}"
    assert KEPT.search(after), f"what is kept, what to do? {after}"
    return after


def bar_of(shown: Shown, words: str) -> str:
    """The last that was seen of a stage's bar, which must have had a count, rate and time left."""
    bars = [line for line in shown.seen if line.startswith(words) and PACE.search(line)]
    assert bars, f"no bar of {words!r} with rate and time left among {shown.seen}"
    return bars[-1]
