"""The plan beside what was measured: every committed file, and how large the error may be."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.plan.gpus import nearest_gpu

ROOT = Path(__file__).resolve().parents[1]
MEASURED = sorted((ROOT / "docs" / "measured").glob("*.json"))
SCRIPTS = ROOT / "ci" / "gpu"
MEMORY_WITHIN, TIME_WITHIN = 5, 40  # per cent, of the plan's own error


@pytest.fixture(scope="module")
def scripts() -> Iterator[SimpleNamespace]:
    """The scripts, which stand beside each other and in no package."""
    sys.path.insert(0, str(SCRIPTS))
    import comparisons
    import limits
    import limits_cases
    import plan_error

    yield SimpleNamespace(
        comparisons=comparisons, limits=limits, cases=limits_cases.CASES, plan_error=plan_error
    )
    sys.path.remove(str(SCRIPTS))


def test_the_plan_stays_near_what_was_measured(scripts: Any) -> None:
    comparisons = scripts.comparisons
    within = {comparisons.MEMORY: MEMORY_WITHIN, comparisons.TIME: TIME_WITHIN}
    found = [one for path in MEASURED for one in comparisons.compare(path)]
    assert {one.file for one in found} >= {
        "peaks-h100.json",
        "speed-h200.json",
        "growth-h200.json",
        "limits-h200.json",
        "two-h200.json",
    }
    assert {one.what for one in found} == {comparisons.MEMORY, comparisons.TIME}
    far = [
        f"{one.file} {one.run}: {one.what} {one.error_percent:+.0f} %"
        for one in found
        if not one.note and abs(one.error_percent) > within[one.what]
    ]
    assert far == []


def test_the_time_is_that_of_the_steps_it_was_fitted_to(scripts: Any) -> None:
    comparisons = scripts.comparisons
    found = comparisons.compare(ROOT / "docs" / "measured" / "growth-h200.json")
    errors = {one.run: one.error_percent for one in found if one.what == comparisons.TIME}
    assert len(errors) == 8
    many_prompts = {"1024x256"}
    assert all(abs(errors[run]) < 10 for run in errors.keys() - many_prompts), errors


@pytest.mark.parametrize(
    "told", [{"growth": [1]}, {"cases": {"16gb-1b": {}}}], ids=["list", "cases"]
)
def test_a_file_that_is_none_of_ours_is_told(scripts: Any, tmp_path: Path, told: Any) -> None:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(UserError, match=r"odd\.json: expected what a script"):
        scripts.comparisons.compare(path)


def test_the_error_is_of_the_measured_figure(scripts: Any) -> None:
    comparisons = scripts.comparisons
    one = comparisons.Comparison("f", "r", comparisons.TIME, measured=2.0, configured=3.0, seen=1.0)
    assert one.configured_percent == pytest.approx(50)
    assert one.error_percent == pytest.approx(-50)
    row = scripts.plan_error.table([one]).splitlines()[-1]
    assert row == "| f | r | step s | 2.00 | 3.00 | +50.0 % | 1.00 | -50.0 % |"


def limits_file(folder: Path, case_name: str) -> Path:
    attempt = {
        "tokens": 2048,
        "prompts": 8,
        "ran": True,
        "step_s": [9.0, 8.0],
        "memory": {"allocated_gib": 6.5, "reserved_gib": 7.0},
    }
    case = {"jobs": 1, "tried": [attempt, attempt | {"tokens": 4096, "ran": False, "memory": None}]}
    path = folder / "limits-x.json"
    told = {"card": "NVIDIA H200", "cases": {case_name: case}}
    path.write_text(json.dumps(told), encoding="utf-8")
    return path


def test_limits_are_read_and_what_failed_is_no_peak(scripts: Any, tmp_path: Path) -> None:
    comparisons = scripts.comparisons
    found = comparisons.compare(limits_file(tmp_path, scripts.cases[0].name))
    assert [(one.run, one.what, one.measured) for one in found] == [
        ("16gb-1b-2048", comparisons.MEMORY, 6.5),
        ("16gb-1b-2048", comparisons.TIME, 8.0),
    ]
    assert found[0].configured < 15.6


def test_scaling_is_planned_for_each_number_of_gpus(scripts: Any, tmp_path: Path) -> None:
    path = tmp_path / "scaling.json"
    hardware = {"device": "NVIDIA H100 80GB HBM3"}
    told = {
        "config": "gemma3-1b.yaml",
        "overrides": ["grpo.max_completion_length=256", "data.source=json"],
        "compared": {},
        "runs": [{"gpus": n, "step_s": 2.0 / n, "hardware": hardware} for n in (1, 2)],
    }
    path.write_text(json.dumps(told), encoding="utf-8")
    one, two = scripts.comparisons.compare(path)
    assert (one.run, two.run) == ("1 GPU(s)", "2 GPU(s)")
    assert two.configured < one.configured


def test_what_is_no_measurement_is_told(scripts: Any, tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="expected a JSON file of measurements"):
        scripts.comparisons.compare(path)
    path.write_text("[]", encoding="utf-8")
    assert scripts.comparisons.compare(path) == []


def test_a_limit_is_sought_between_a_length_that_fits_and_one_that_does_not(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = scripts.limits
    case = scripts.cases[0]
    bench = limits.Bench(
        card=nearest_gpu("NVIDIA H200", 0.0),
        models={case.size: Path(f"gemma-3-{case.size}-random")},
        gsm8k=tmp_path,
        folder=tmp_path,
        lengths=limits.LENGTHS,
        jobs=1,
        step_s=60,
        limit_s=60,
        deadline=float("inf"),
        out=tmp_path / "limits.json",
        found={"cases": {}},
        free_gib=139.0,
    )
    planned = limits.planned(case, bench, 4096)[0]
    assert planned.gpu.memory_gib == case.memory_gib
    first = max(n for n in limits.LENGTHS if limits.planned(case, bench, n)[0].fits)
    place = limits.LENGTHS.index(first)
    below = limits.LENGTHS[place - 2]

    def ran_up_to(_case: Any, _bench: Any, tokens: int) -> dict[str, Any]:
        return {"tokens": tokens, "ran": tokens <= below, "out_of_memory": tokens > below}

    monkeypatch.setattr(limits, "attempt", ran_up_to)  # a GPU's part
    found = limits.find_limit(case, bench)
    assert [one["tokens"] for one in found["tried"]] == list(limits.LENGTHS[place : place - 3 : -1])
    assert found["longest_that_ran"] == below
    assert found["shortest_that_failed"] == limits.LENGTHS[place - 1]
    assert json.loads(bench.out.read_text(encoding="utf-8"))["cases"][case.name] == found
