"""verifiers' own command over our taskset, and its own scoring of a trace."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xmlgrpo_rewards import render

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "verifiers"


@pytest.mark.adapters
@pytest.mark.parametrize("name", ["json_qa", "sql"])
def test_vf_validate_finds_golds_right_and_doing_nothing_worthless(
    name: str, tmp_path: Path
) -> None:
    command = [
        *(str(Path(sys.executable).with_name("vf-validate")), "xmlgrpo-taskset"),
        *("--taskset.task-name", name, "--taskset.rows", "6"),
        *("--runtime.type", "subprocess", "--rich", "False"),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(RECIPE)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [summary] = tmp_path.glob("outputs/*/summary.json")
    outcomes = json.loads(summary.read_text(encoding="utf-8"))["outcomes"]
    assert outcomes.pop("valid") == 6
    assert not any(outcomes.values())


@pytest.mark.adapters
@pytest.mark.filterwarnings("ignore")  # of verifiers, when it is imported
def test_a_trace_is_paid_as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPE))
    import verifiers.v1 as vf

    from xmlgrpo_taskset import RowsConfig, RowsTaskset

    [task] = RowsTaskset(RowsConfig(task_name="json_qa", rows=1))

    def scored(reply: str) -> vf.Trace:
        trace = vf.Trace(
            task=vf.TraceTask(type="RowTask", key=task.key, data=task.data),
            agent=vf.AgentInfo(config=vf.AgentConfig()),
            root_reply=reply,
        )
        asyncio.run(task.score(trace))
        return trace

    right = scored(render("It says so.", task.data.gold))
    assert right.reward == 4.0
    assert right.metrics["strict_correct"] == 1.0
    assert scored("{}").reward == 0.0
    assert task.data.judge not in task.data.prompt_text
