"""The lines a person reads and the file a program reads."""

import dataclasses
import io
import json
import math
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from transformers import TrainerControl

from xmlgrpo_rewards.reply import render
from xmlgrpo_rewards.task import Example, Words, get_task
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.metrics import read_log
from xmlgrpo_run.screen import progress
from xmlgrpo_trainer.config.run_config import RunConfig, WatchConfig
from xmlgrpo_trainer.grpo.rewards import Scored
from xmlgrpo_trainer.problems.keep_best import stopped_early, why_lost
from xmlgrpo_trainer.reporting.result import draw_curves
from xmlgrpo_trainer.reporting.sampled import agreement, repetition, same_wrong, sampled_shares
from xmlgrpo_trainer.reporting.steps import NotFiniteError, Watch
from xmlgrpo_trainer.reporting.trackers import Trackers

GSM8K = get_task("gsm8k")
BATCH = [
    Scored(
        Example("1", "How many [bold]apples[/]?", "4", ""), render("2+2 = 4", "4"), {"mine": 1.0}
    ),
    Scored(Example("2", "And pears?", "5", ""), "#### 6", {"mine": 0.0}),
]
LOGS = {"loss": 0.1, "grad_norm": 0.5, "reward": 1.25, "completions/mean_length": 12.0}


@pytest.fixture(autouse=True)
def _only_steps_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two steps a slow machine has a stage print lines of its own; here none does."""
    monkeypatch.setattr(progress, "FIRST_LINE_S", 3600.0)
    monkeypatch.setattr(progress.Stage, "_open", [])  # some are left open by their test


def watch(root: Path, console: Console) -> Watch:
    folder, config = RunFolder(root), WatchConfig(samples_every=2, samples_kept=1)
    nobody = Trackers(RunConfig(), folder)
    made = Watch(folder, GSM8K, list(BATCH), config, console, trackers=nobody)
    made.on_train_begin(None, state(0), None)
    return made


def state(step: int) -> Any:
    return SimpleNamespace(global_step=step, max_steps=40, is_world_process_zero=True)


def log(made: Watch, step: int, **changes: Any) -> None:
    made.on_step_begin(None, state(step), None)
    made.on_log(None, state(step), TrainerControl(), logs={**LOGS, **changes})


ALL = ["step  3/40", "reward  1.25", "right  50%", "format  50%", "worked  50%", "12 tokens"]


def terminal(out: io.StringIO, width: int) -> Console:
    return Console(
        file=out, width=width, force_terminal=True, color_system=None, force_interactive=False
    )


@pytest.mark.parametrize(
    ("width", "ends"),
    [
        pytest.param(118, [*ALL, "10.00 s/step", "left 0:06:10", "grad 0.50"], id="pipe"),
        pytest.param(100, [*ALL, "10.00 s/step"], id="100"),
        pytest.param(80, ALL, id="80"),
        pytest.param(40, ALL[:3], id="40"),
    ],
)
def test_a_step_is_one_line_of_what_fits_and_one_in_the_file(
    tmp_path: Path, width: int, ends: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    out = io.StringIO()
    made = watch(tmp_path, terminal(out, width))
    now_s += 20  # two steps
    made.on_step_begin(None, state(3), None)
    now_s += 10
    made.on_log(None, state(3), TrainerControl(), logs=LOGS)
    made.on_train_end(None, state(3), None)
    [line] = out.getvalue().splitlines()
    assert len(line) <= width
    places = [line.index(words) for words in ends]
    assert places == sorted(places)
    assert line.endswith(ends[-1])
    [row] = read_log(tmp_path / "metrics.jsonl").rows.values()
    assert (row["step"], row["loss"], row["sampled/lenient"]) == (3, 0.1, 0.5)
    assert row["peak_mib"] > 10, "of this process"


def test_energy_is_that_since_the_step_before_where_the_driver_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([1000.0, 1250.0, 1300.04, None])
    monkeypatch.setattr("xmlgrpo_trainer.reporting.steps.gpu_energy_j", lambda: next(told))
    made = watch(tmp_path, Console(file=io.StringIO(), width=118))
    for step in (1, 2, 3):
        log(made, step)
    rows = read_log(tmp_path / "metrics.jsonl").rows.values()
    assert [row.get("energy_j") for row in rows] == [250.0, 50.0, None]


def test_the_line_and_the_bar_say_the_same_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    out = io.StringIO()
    made = watch(tmp_path, Console(file=out, width=118))
    now_s += 30  # three steps
    log(made, 3)
    made.on_train_end(None, state(3), None)
    assert re.findall(r"left \d:\d\d:\d\d", out.getvalue()) == ["left 0:06:10"]
    assert "left 0:06:10" in made.stage.figures()


def test_a_sample_is_shown_as_the_model_wrote_it(tmp_path: Path) -> None:
    out = io.StringIO()
    log(watch(tmp_path, Console(file=out, width=118)), 2)
    shown = out.getvalue()
    assert "How many [bold]apples[/]?" in shown  # markup in hostile text is text
    assert "<reasoning>⏎2+2 = 4⏎</reasoning>⏎<answer>⏎4⏎</answer> right" in shown


def test_a_sample_breaks_at_words_and_steers_no_terminal(tmp_path: Path) -> None:
    out = io.StringIO()
    made = watch(tmp_path, terminal(out, 60))
    reply = "so \x1b[2J" + "three apples and four pears " * 4
    made.batch[0] = dataclasses.replace(BATCH[0], completion=reply)
    log(made, 2)
    lines = out.getvalue().splitlines()[1:]
    assert max(map(len, lines)) <= 60
    assert "\x1b" not in out.getvalue()
    words = set(" ".join(lines).split())
    assert {"three", "apples", "and", "four", "pears"} <= words
    assert not words & {"thr", "app", "pea", "pe", "fo"}


def test_samples_are_kept(tmp_path: Path) -> None:
    log(watch(tmp_path, Console(quiet=True)), 5)
    [line] = (tmp_path / "completions" / "step-00005.jsonl").read_text().splitlines()
    kept = json.loads(line)
    assert (kept["gold"], kept["scores"]) == ("4", {"mine": 1.0})


@pytest.mark.parametrize("name", ["loss", "grad_norm", "reward"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_ends_the_run_in_words(
    tmp_path: Path, name: str, value: float
) -> None:
    made = watch(tmp_path, Console(quiet=True))
    with pytest.raises(NotFiniteError, match=f"{name} is (nan|inf) at step 4.*learning_rate"):
        log(made, 4, **{name: value})
    [row] = read_log(tmp_path / "metrics.jsonl").rows.values()
    assert row[name] is None  # kept as valid JSON


def test_what_the_doctor_finds_is_said_once_and_ends_the_run_where_asked(tmp_path: Path) -> None:
    out, folder = io.StringIO(), RunFolder(tmp_path)
    config = WatchConfig(samples_every=99, samples_kept=0, stop_when=["replies-cut"])
    console, nobody = Console(file=out, width=300), Trackers(RunConfig(), folder)
    made = Watch(folder, GSM8K, list(BATCH), config, console, trackers=nobody)
    made.on_train_begin(None, state(0), None)
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    for step, clipped in enumerate([0.0] * 4 + [1.0] * 20, start=1):
        logs = {**LOGS, "completions/clipped_ratio": clipped}
        made.on_step_begin(None, state(step), control)
        made.on_log(None, state(step), control, logs=logs)
        if control.should_training_stop:
            break
    assert control.should_save
    [warned, bad] = [line for line in out.getvalue().splitlines() if "doctor: replies-cut" in line]
    assert "33% of the replies are cut" in warned
    assert "-> raise grpo.max_completion_length" in bad
    why = why_lost(folder, step)
    assert why is not None
    assert re.match(f"stopped as lost at step {step}, replies-cut: 8.% of the replies are cut", why)
    assert why_lost(folder, step + 1) is None
    assert stopped_early(folder, step)


def test_shares_of_a_batch() -> None:
    assert sampled_shares(GSM8K, BATCH) == {
        "sampled/replies": 2,
        "sampled/strict_format": 0.5,
        "sampled/strict": 0.5,
        "sampled/lenient": 0.5,
        "sampled/worked": 0.5,
        "sampled/one_answer": 0.0,
        "sampled/loops": 0.0,
        "sampled/same_wrong": 0.0,
        "sampled/false_sums": 0.0,
    }


def test_a_right_answer_by_a_false_sum_is_seen() -> None:
    false = dataclasses.replace(BATCH[0], completion=render("2+1 = 4", "4"))
    assert sampled_shares(GSM8K, [*BATCH, false])["sampled/false_sums"] == 0.5


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        pytest.param(["7", "7", "8", "8"], 1.0, id="each-group-its-own"),
        pytest.param(["7", "7", "5", "5"], 0.5, id="one-group-right"),
        pytest.param(["7", "6", "8", "9"], 0.0, id="tried"),
        pytest.param(["no", "no", "8", "8"], 0.5, id="no-answer-is-none"),
    ],
)
def test_groups_with_one_wrong_answer(replies: list[str], expected: float) -> None:
    golds = ["5"] * 4
    grades = [
        GSM8K.grade(text, Example("", "", gold, ""))
        for text, gold in zip(replies, golds, strict=True)
    ]
    assert same_wrong(["a", "a", "b", "b"], grades) == expected


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        pytest.param("the first 10 to the first 10 to " * 6, 0.8, 1.0, id="a-loop"),
        pytest.param(render("He buys 3 apples. 3 + 4 = 7. 7 * 2 = 14.", "14"), 0, 0.1, id="sound"),
        pytest.param("yes yes yes", 0, 0, id="too-short-to-say"),
    ],
)
def test_repetition(text: str, low: float, high: float) -> None:
    assert low <= repetition(text) <= high


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param(["1", "1", "2", "2"], 0.0, id="each-problem-its-own"),
        pytest.param(["7", "7", "7", "7"], 1.0, id="one-to-everything"),
        pytest.param([None, None, None, None], 0.0, id="none"),
        pytest.param(["1", "7", "2", "7"], 1 / 4, id="one-pair-of-four"),
    ],
)
def test_how_often_replies_to_different_problems_agree(
    answers: list[str | None], expected: float
) -> None:
    assert agreement(["a", "a", "b", "b"], answers) == expected
    assert agreement(["a"] * 4, answers) == 0.0
    assert set(sampled_shares(GSM8K, []).values()) == {0.0}


def test_curves_are_drawn_from_gaps_and_nulls(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"step": 0, "validation/strict_accuracy": 0.1},
        {"step": 1, "reward": None, "rewards/mine/mean": 0.5},
        {"step": 2, "reward": 1.0, "grad_norm": 0.2},
    ]
    draw_curves(rows, tmp_path / "curves.png", "a $title with _signs_", Words())
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_nothing_logged_draws_nothing(tmp_path: Path) -> None:
    draw_curves([], tmp_path / "curves.png", "empty", Words())
    assert not (tmp_path / "curves.png").exists()
