"""The end of a run says what its own numbers show, and no more."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from finished_runs import base_of, data_of, finished
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import HeldOut, Manifest
from xmlgrpo_run.measures.holdout import HoldoutResult, Item
from xmlgrpo_trainer.reporting.result import (
    DEMO_DID_NOT,
    DEMO_SHOWED,
    TASK_DID_NOT,
    TASK_SHOWED,
    TINY_ON_REAL,
    show_end,
    verdict,
)


def share(hits: int) -> dict[str, int]:
    return {"hits": hits, "total": 400}


def metrics(form: int, strict: int, lenient: int, worked: int) -> dict[str, Any]:
    rest = {name: share(0) for name in ("truncated", "no_answer")}
    return {
        "strict_format": share(form),
        "worked": share(worked),
        "strict_accuracy": share(strict),
        "lenient_accuracy": share(lenient),
        **rest,
        "mean_tokens": 13.5,
    }


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Manifest]:
    def made(
        *,
        tiny: bool,
        source: str,
        form: int,
        lenient: int,
        worked: int = 400,
        task: str = "gsm8k",
    ) -> Manifest:
        run = RunFolder(tmp_path / "run")
        after = metrics(form, lenient, lenient, worked)
        return finished(
            run,
            "org/name",
            task=task,
            base=base_of(run, "org/name", tiny=tiny),
            data=data_of(source=source),
            holdout=HeldOut(400, metrics(0, 0, 140, 0), after),
        )

    return made


@pytest.mark.parametrize(
    ("tiny", "source", "form", "lenient", "words"),
    [
        pytest.param(True, "generated", 400, 320, DEMO_SHOWED, id="reached"),
        pytest.param(True, "generated", 380, 260, DEMO_SHOWED, id="just-reached"),
        pytest.param(True, "generated", 379, 320, DEMO_DID_NOT, id="format-short"),
        pytest.param(True, "generated", 400, 259, DEMO_DID_NOT, id="gain-short"),
        pytest.param(True, "generated", 400, 100, DEMO_DID_NOT, id="worse"),
        pytest.param(True, "json", 400, 320, TINY_ON_REAL, id="tiny-on-real-problems"),
        pytest.param(False, "hub", 400, 320, "", id="a-real-model"),
    ],
)
def test_the_verdict_follows_the_numbers(
    manifest, *, tiny: bool, source: str, form: int, lenient: int, words: str
) -> None:
    assert verdict(manifest(tiny=tiny, source=source, form=form, lenient=lenient)) == words


def test_a_gain_without_working_is_not_what_the_demo_shows(manifest) -> None:
    guessed = manifest(tiny=True, source="generated", form=400, lenient=320, worked=40)
    assert verdict(guessed) == DEMO_DID_NOT


@pytest.mark.parametrize(("lenient", "words"), [(320, TASK_SHOWED), (179, TASK_DID_NOT)])
def test_a_task_without_sums_is_not_asked_for_them(manifest, lenient: int, words: str) -> None:
    ended = manifest(
        tiny=True, source="generated", form=400, lenient=lenient, worked=0, task="capitals"
    )
    assert verdict(ended) == words


def item(reply: str, *, right: bool) -> Item:
    return Item("1", "How many?", "4", reply, 3, right, right, right, False, False, True)


def test_the_table_has_intervals_and_examples_are_text(manifest, tmp_path: Path) -> None:
    out = io.StringIO()
    before = HoldoutResult(0, (item("#### 5", right=False), item("#### 6", right=False)))
    after = HoldoutResult(9, (item("[red]4[/red]", right=True), item("7", right=False)))
    shown = manifest(tiny=False, source="hub", form=400, lenient=320)
    show_end(Console(file=out, width=118), shown, RunFolder(tmp_path / "one"), (before, after))
    text = out.getvalue()
    assert "35.0% [30.5%, 39.8%]" in text  # Wilson's interval for 140 of 400
    assert "+45.0" in text
    assert "[red]4[/red]" in text
    assert text.index("became right") < text.index("still wrong")
    assert f"make ask RUN={tmp_path / 'one'}" in text


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("hits", [0, 140, 400])
def test_the_end_fits_the_screen_and_tears_no_figure(manifest, width: int, hits: int) -> None:
    out = io.StringIO()
    shown = manifest(tiny=True, source="generated", form=400, lenient=hits)
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    reply = "three apples and four pears make seven pieces of fruit " * 4
    pair = [HoldoutResult(step, (item(reply, right=step > 0),)) for step in (0, 9)]
    show_end(console, shown, RunFolder(Path("outputs/one")), pair)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    table = [
        line
        for line in lines
        if line.lstrip().startswith(("strict", "lenient", "worked", "cut", "no answer"))
    ]
    assert len(table) == 6
    for line in table:
        assert len(re.findall(r"\d% \[\d+\.\d%, \d+\.\d%\]", line)) == 2
        assert re.search(r"[+-]\d+\.\d$", line.rstrip())
    assert lines[-1] == 'ask it       make ask RUN=one Q="..."'
