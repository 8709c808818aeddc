"""The plan beside what was measured: every committed file, and how large the error may be."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.training import plan_error
from xmlgrpo_rewards.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
MEASURED = sorted((ROOT / "docs" / "measured").glob("*.json"))
MEMORY_WITHIN, TIME_WITHIN = 5, 40  # per cent, of the plan's own error
RUN = {
    "config": {
        "model": {"name": "gemma-3-1b-random"},
        "data": {"source": "json", "path": "gsm8k"},
        "grpo": {"max_completion_length": 256},
    },
    "hardware": {"device": "NVIDIA H200"},
    "memory": {"allocated_gib": 6.5},
    "step_s": 2.0,
}


def written(folder: Path, measured: Any) -> Path:
    path = folder / "odd.json"
    path.write_text(json.dumps(measured), encoding="utf-8")
    return path


def test_the_plan_stays_near_what_was_measured() -> None:
    within = {plan_error.MEMORY: MEMORY_WITHIN, plan_error.TIME: TIME_WITHIN}
    found = [one for path in MEASURED for one in plan_error.compare(path)]
    assert {one.file for one in found} >= {
        "peaks-h100.json",
        "speed-h200.json",
        "growth-h200.json",
        "limits-h200.json",
        "two-h200.json",
    }
    assert len(found) >= 49
    assert {one.what for one in found} == {plan_error.MEMORY, plan_error.TIME}
    far = [
        f"{one.file} {one.run}: {one.what} {one.error_percent:+.0f} %"
        for one in found
        if not one.note and abs(one.error_percent) > within[one.what]
    ]
    assert far == []


def test_the_time_is_that_of_the_steps_it_was_fitted_to() -> None:
    found = plan_error.compare(ROOT / "docs" / "measured" / "growth-h200.json")
    errors = {one.run: one.error_percent for one in found if one.what == plan_error.TIME}
    assert len(errors) == 8
    many_prompts = {"1024x256"}
    assert all(abs(errors[run]) < 10 for run in errors.keys() - many_prompts), errors


def test_the_error_is_of_the_measured_figure() -> None:
    one = plan_error.Comparison("f", "r", plan_error.TIME, measured=2.0, configured=3.0, seen=1.0)
    assert one.configured_percent == pytest.approx(50)
    assert one.error_percent == pytest.approx(-50)
    row = plan_error.table([one]).splitlines()[-1]
    assert row == "| f | r | step s | 2.00 | 3.00 | +50.0 % | 1.00 | -50.0 % |"


def test_a_run_is_found_wherever_it_stands(tmp_path: Path) -> None:
    runs = [RUN | {"gpus": n, "memory": None} for n in (1, 2)]
    path = written(tmp_path, {"results": {"graph": RUN}, "runs": runs})
    memory, step, one, two = plan_error.compare(path)
    assert [x.what for x in (memory, step)] == [plan_error.MEMORY, plan_error.TIME]
    assert [x.run for x in (memory, step, one, two)] == ["graph", "graph", "1", "2"]
    assert two.configured < one.configured == step.configured


@pytest.mark.parametrize(
    "measured", [{"results": {"a": RUN | {"config": {"grpo": 1}}}}, {"peaks": [1]}], ids=str
)
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, measured: Any) -> None:
    with pytest.raises(UserError, match=r"odd\.json"):
        plan_error.compare(written(tmp_path, measured))


def test_what_is_no_measurement_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="expected a JSON file that a script"):
        plan_error.compare(path)
    assert plan_error.compare(written(tmp_path, [])) == []
