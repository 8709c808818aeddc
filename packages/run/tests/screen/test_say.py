"""Sentences on consoles of several widths."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from xmlgrpo_run.screen.say import say


def printed(text: str | Text, *, columns: int | None, head: str = "") -> list[str]:
    """What a terminal of so many columns is given, or a pipe, without control codes."""
    file = io.StringIO()
    console = Console(
        file=file, width=columns or 80, force_terminal=columns is not None, color_system=None
    )
    say(console, text, head=head)
    return file.getvalue().splitlines()


SAID = "[green]fits[/] the 23.5 GiB of this machine, 21.3 GiB to spare"


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        pytest.param(28, ["fits the 23.5 GiB of this", "machine, 21.3 GiB to spare"], id="narrow"),
        pytest.param(52, ["fits the 23.5 GiB of this machine, 21.3 GiB to spare"], id="fits"),
        pytest.param(None, ["fits the 23.5 GiB of this machine, 21.3 GiB to spare"], id="pipe"),
    ],
)
def test_lines_fit_a_terminal_and_stay_whole_in_a_pipe(
    columns: int | None, lines: list[str]
) -> None:
    assert printed(SAID, columns=columns) == lines


def test_the_lines_below_stand_under_the_first() -> None:
    assert printed("two lines\nof words", columns=12, head="model  ") == [
        *("model  two", "       lines", "       of", "       words")
    ]


def test_a_style_goes_on_in_the_next_line() -> None:
    file = io.StringIO()
    console = Console(file=file, width=6, force_terminal=True, color_system="standard")
    say(console, "[red]one two[/]")
    assert file.getvalue() == "\x1b[31mone\x1b[0m\n\x1b[31mtwo\x1b[0m\n"


def test_what_is_given_as_text_is_no_markup() -> None:
    assert printed(Text("[red]"), columns=20) == ["[red]"]


@pytest.mark.parametrize(
    "text", ["[bold]a\x1b]0;t\x1b[2J\u202e[/]b", Text("a\x1b]0;t\x1b[2J\u202eb")]
)
def test_no_name_from_elsewhere_steers_the_terminal(text: str | Text) -> None:
    assert printed(text, columns=60) == ["a\ufffd]0;t\ufffd[2J\ufffdb"]
