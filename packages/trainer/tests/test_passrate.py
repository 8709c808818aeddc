"""Pass rates of the training problems: measured, kept, trained on."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import render
from xmlgrpo_rewards.task import Example, get_task
from xmlgrpo_rollout.engine import Completion
from xmlgrpo_run.metrics import read_log
from xmlgrpo_trainer import passrate
from xmlgrpo_trainer.config.run_config import RunConfig
from xmlgrpo_trainer.problems.pass_rates import read_pass_rates

# the module; the package offers a function of the same name
TOTAL: Any = importlib.import_module("xmlgrpo_rewards.total")
PROBLEMS = [Example(f"p{number}", f"{number}+0?", str(number), "") for number in (4, 7)]


def test_replies_are_counted_by_problem() -> None:
    texts = [
        render("2+2 = 4", "4"),
        "It is 4",
        "5",
        "none",
        "7",
        "7",
        "7",
        render("It is so.", "7"),
    ]
    tokenizer = SimpleNamespace(batch_decode=lambda rows, **_: [texts[place] for [place] in rows])
    replies = [Completion([place]) for place in range(len(texts))]
    rows = passrate.counted(get_task("gsm8k"), PROBLEMS, replies, tokenizer)
    assert [(row["id"], row["right"], row["strict"], row["asked"]) for row in rows] == [
        ("p4", 2, 1, 4),
        ("p7", 4, 1, 4),
    ]
    assert passrate.summary(rows) == {
        "problems": 2,
        "right": 6 / 8,
        "strict": 2 / 8,
        "mixed": 1 / 2,
        "problems_by_right": {2: 1, 4: 1},
    }


@pytest.mark.slow
def test_a_run_on_measured_rates_goes_on_step_for_step(
    runs: Path, tiny_base: Path, quick_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xmlgrpo_trainer.train import train

    console, out = Console(quiet=True), runs / "rates.jsonl"
    plain: RunConfig = quick_config()
    assert passrate.measure(plain, out, 8, runs, console) == 0
    rates = read_pass_rates(out)
    assert {rate.asked for rate in rates.values()} == {8}
    about = json.loads(out.with_suffix(".json").read_text())
    assert about["model"] == tiny_base.name
    assert sum(about["problems_by_right"].values()) == about["problems"] == len(rates)

    written = out.read_text()
    out.write_text("".join(written.splitlines(keepends=True)[:20]))  # stopped, and called again
    assert passrate.measure(plain, out, 8, runs, console) == 0
    assert out.read_text().splitlines()[:20] == written.splitlines()[:20]
    assert set(read_pass_rates(out)) == set(rates)
    with pytest.raises(UserError, match="is of another samples: remove it"):
        passrate.measure(plain, out, 4, runs, console)

    drawn: RunConfig = quick_config(
        sampling__band=[0.1, 0.9], sampling__rates=str(out), sampling__draw=2.0
    )
    assert train(drawn, runs / "drawn", console) == 0
    whole = read_log(runs / "drawn" / "metrics.jsonl").rows
    assert all(row["draws/taught_tokens"] <= 0.75 for row in whole.values() if "loss" in row)

    calls = []
    healthy = TOTAL.CLASSIC["int_reward_func"]

    def fails_at_the_fourth(**columns: Any) -> list[float]:
        calls.append(len(columns["completions"]))
        if len(calls) == 4:
            raise ZeroDivisionError
        return list(healthy(**columns))

    with monkeypatch.context() as patched:
        patched.setitem(TOTAL.CLASSIC, "int_reward_func", fails_at_the_fourth)
        with pytest.raises(UserError, match="Step 3 is saved"):
            train(drawn, runs / "cut", console)
    assert calls == [32] * 4, "twice the 16 completions that are learnt from"
    assert train(drawn, runs / "cut", console) == 0
    again = read_log(runs / "cut" / "metrics.jsonl").rows
    for step, row in whole.items():
        assert told(again[step]) == told(row)


def told(row: Any) -> dict[str, Any]:
    differs = ("time", "step_time", "rollout_time", "peak_mib")
    return {name: value for name, value in row.items() if name not in differs}
