"""What models, files and the Hub say, through everything that shows it on a terminal."""

import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xmlgrpo_evaluator.results import compare, ladder_table
from xmlgrpo_exporter.check.check_json import FileCheck, Gate, show_check
from xmlgrpo_exporter.publish.push import show_dry_run
from xmlgrpo_rewards.console_script import for_stdout, run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Example, get_task
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.measures.summary import metrics_of
from xmlgrpo_run.screen.console import guarded
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say
from xmlgrpo_trainer.ask.view import ReplyView
from xmlgrpo_trainer.grpo.rewards import Scored
from xmlgrpo_trainer.reporting.steps import Watch

HOSTILE = {
    "colours": "\x1b[31mred\x1b[0m",
    "cursor": "a\x1b[2J\x1b[1;1Hb\rc\x08d",
    "title": "\x1b]0;owned\x07",
    "link": "\x1b]8;;https://a.test\x1b\\click\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;cm0gLXJmIC8=\x07",
    "eight-bit": "\x9b31m \x9d0;owned\x9c \x90q\x9c",
    "bell-and-nothing": "\x07\x00\x7f",
    "turned": "\u202eevil\u202c \u2066x\u2069 \u200e\u200f\u061c",
    "not-seen": "a\u200bb\u2060c\ufeffd\u00ade\U000e0041f\u3164g",
    "lines": "one\u2028two\u2029three\x85four\x0bfive",
    "halves": "\ud83d and \udc00",
    "markup": "[red]x[/] [/nothing] [link=https://a.test]y[/link]",
    "long": "\x1b[1m" + "word" * 500,
}
SHOWN = "Cc", "Cf", "Cs", "Zl", "Zp"


def terminal() -> Console:
    made = Console(
        file=io.StringIO(), width=100, force_terminal=True, color_system=None, legacy_windows=False
    )
    return guarded(made)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def by_say(text: str) -> str:
    console = terminal()
    say(console, escape(text), head=escape(text[:20]))
    return printed(console)


def by_table_and_rule(text: str) -> str:
    console = terminal()
    table = Table(title=escape(text))
    table.add_column(escape(text))
    table.add_row(escape(text))
    console.print(table)
    console.rule(escape(text))
    console.print(text, markup=False)
    return printed(console)


def by_stage(text: str) -> str:
    console = terminal()
    stage = Stage(console, text)
    console.print(stage._progress.get_renderable())
    return printed(console)


def by_training_sample(text: str) -> str:
    console = terminal()
    watch = SimpleNamespace(console=console, task=get_task("gsm8k"), stage=Stage(console, "x"))
    Watch._show_sample(watch, Scored(Example("id", text, "4", ""), text, {"format": 1.0}))  # type: ignore[arg-type]
    return printed(console)


def evaluated(label: str, text: str, score: float) -> dict[str, Any]:
    item = {"id": text, "question": text, "gold": text, "replies": [text]}
    items = [{**item, "scores": {"strict_accuracy": score}}]
    return {
        "label": label + text,
        "subject": {"limit": None, "seed": 0},
        "prompts": None,
        "tasks": {f"task{text}": {"metrics": metrics_of(items), "items": items}},
    }


def by_comparison(text: str) -> str:
    console = terminal()
    compared = compare.compare_results(evaluated("a", text, 0.0), evaluated("b", text, 1.0))
    compare.show(compared, console)
    return printed(console)


def by_ladder(text: str) -> str:
    console = terminal()
    accuracy = {"mean": 0.5, "low": 0.4, "high": 0.6}
    rung = dict.fromkeys(("size_bytes", "bits_per_weight", "tokens_per_s", "peak_mib", "p"))
    rung |= {"label": text, "accuracy": accuracy, "against": text, "caution": text, "passed": False}
    rung |= {"difference": {"value": -0.1, "low": -0.2, "high": 0.1}}
    rung |= {"prompts_as_in_training": False, "sampled": {"maj_at_k": accuracy}}
    ladder = {"task": text, "items": 4, "metric": text, "tolerance": 0.02, "passed": False}
    settings = {"k": 2, "temperature": 1.0, "seed": text}
    ladder_table.show(ladder | {"rungs": [rung], "settings": settings}, console)
    return printed(console)


def by_gates(text: str) -> str:
    console = terminal()
    gate = Gate("tokens", passed=False, found={text: text}, why=text)
    show_check(FileCheck(text, text, 5, "0" * 64, (gate,), text), console)
    return printed(console)


def by_dry_run(text: str) -> str:
    console = terminal()
    release = SimpleNamespace(
        card=f"---\nlicense: mit\n---\n\n{text}\n",
        run=RunFolder(Path(text)),
        stay=[text],
        size=5,
        to=SimpleNamespace(hub="h", repo=text, private=True),
        files=[SimpleNamespace(sha256="0" * 64, size=5, kind="config", target=text)],
    )
    release.to.revision = text
    there = SimpleNamespace(problems=[text], not_asked=text)
    show_dry_run(console, release, [text], there)  # type: ignore[arg-type]
    return printed(console)


def by_reply(text: str) -> str:
    console = terminal()
    view = ReplyView(console)
    for piece in (text, "<reasoning>", text, "</reasoning>", text):
        view.feed(piece)
    view.end()
    return printed(console)


PATHS = (
    *(by_say, by_table_and_rule, by_stage, by_training_sample, by_comparison, by_ladder),
    *(by_gates, by_dry_run, by_reply),
)


def steering(shown: str) -> set[str]:
    return {
        character
        for character in shown
        if character != "\n" and unicodedata.category(character) in SHOWN
    }


@pytest.mark.parametrize("show", PATHS)
def test_nothing_steers_the_terminal_or_hides(show: Callable[[str], str]) -> None:
    for name, text in HOSTILE.items():
        assert steering(show(text)) == set(), name


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_an_error_is_told_without_it(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise UserError(f"the Hub says {text}")

    with pytest.raises(SystemExit):
        run_command(fail)
    assert steering(capsys.readouterr().err) == set()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_json_is_whole_for_a_program_and_harmless_on_a_terminal(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = json.dumps({"reply": text}, ensure_ascii=False)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert for_stdout(whole) == whole
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: True))
    assert steering(for_stdout(whole)) == set()
