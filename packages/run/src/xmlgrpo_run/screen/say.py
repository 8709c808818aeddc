"""Sentences on rich's console: lines that fit a terminal, whole lines in a pipe."""

from rich.console import Console
from rich.text import Text

from xmlgrpo_rewards.prose import line_ends, printable, width


def say(console: Console, text: str | Text, *, head: str | Text = "") -> None:
    """Print a paragraph; on a terminal no line is wider than it, and no figure is torn.

    Names of metrics, files and runs may come from anywhere: nothing in them steers the terminal.

    Args:
        text: of one or more lines; a `str` may hold rich's markup.
        head: stands before the first line, and its width before all others.
    """
    first = _text(head)
    indent = Text(" " * width(first.plain))
    for paragraph in _text(text).split("\n", allow_blank=True):
        room = console.width - len(indent)
        ends = line_ends(paragraph.plain, room) if console.is_terminal else []
        for line in paragraph.divide(ends):
            line.rstrip()
            console.print(first + line, highlight=False, soft_wrap=True)
            first = indent


def _text(text: str | Text) -> Text:
    made = Text.from_markup(text) if isinstance(text, str) else text.copy()
    made.plain = printable(made.plain)  # of the same length, so styles stay where they are
    return made
