"""The scripts of bench/ that train, on the CPU with a tiny shape."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.library_fields import check_grpo
from xmlgrpo_trainer.config.run_config import check_config
from xmlgrpo_trainer.plan.gpus import nearest_gpu

ROOT = Path(__file__).resolve().parents[2]
ON_CPU = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def scripts() -> SimpleNamespace:
    from bench.shared import cases
    from bench.training import steps

    return SimpleNamespace(cases=cases, steps=steps)


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    """A folder with problems in GSM8K's form."""
    rows = [
        {
            "question": f"Ann has {n} pens and buys {n % 7 + 2} more. How many has she now?",
            "answer": f"She has {n} + {n % 7 + 2} = {n + n % 7 + 2} pens.\n#### {n + n % 7 + 2}",
        }
        for n in range(64)
    ]
    folder = tmp_path / "problems"
    folder.mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "train.jsonl").write_text(text, encoding="utf-8")
    return folder


def measured(script: str, *words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", f"bench.training.{script}", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=ON_CPU, cwd=ROOT
    )


@pytest.mark.scripts
def test_a_run_is_trained_merged_and_compared(problems: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    # unsloth needs a GPU: its failure must not stop the other
    names = ("--only", "unsloth-16-graph", "plain-16-graph")
    ran = measured("backends", "--gsm8k", problems, "--out", out, "--size", "tiny", *names)
    runs = json.loads(out.read_text(encoding="utf-8"))["runs"]
    plain, unsloth = runs["plain-16-graph"], runs["unsloth-16-graph"]
    assert plain["train"]["exit_code"] == 0, ran.stdout
    assert len(plain["train"]["grad_norm"]) == 2
    assert plain["merge_float32"]["parity"]["passed"]
    assert "needs a CUDA GPU" in unsloth["train"]["last_lines"][-1]
    assert ran.returncode == 1, "one of two failed"


@pytest.mark.scripts
def test_steps_of_two_sizes_are_timed_and_others_results_kept(
    problems: Path, tmp_path: Path
) -> None:
    out = tmp_path / "growth.json"
    out.write_text(json.dumps({"results": {"16x256": {"step_s": 1.0}}}), encoding="utf-8")
    words = ("growth", "--only", "64x512", "--gsm8k", problems, "--out", out, "--size", "tiny")
    ran = measured("steps", *words, "grpo.max_completion_length=8", "grpo.max_steps=4")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = json.loads(out.read_text(encoding="utf-8"))["results"]
    assert results["16x256"] == {"step_s": 1.0}
    found = results["64x512"]
    assert len(found["step_s_all"]) == 3
    assert found["step_s"] > 0
    assert 7 < found["mean_tokens"] <= 8
    assert found["config"]["model"]["name"] == "gemma-3-tiny-random"
    assert str(tmp_path) not in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("times", "seconds", "steady"),
    [
        pytest.param([0, 60, 70, 71, 73, 76], [60, 10, 1, 2, 3], 2.5, id="the-second-is-warm-too"),
        pytest.param([5, 9, 10], [4, 1], 1, id="one-steady-step"),
        pytest.param([5, 9], [4], None, id="warm-steps-only"),
        pytest.param([], [], None, id="nothing-was-logged"),
    ],
)
def test_the_median_leaves_the_warm_steps_out(
    scripts: Any, times: list[float], seconds: list[float], steady: float | None
) -> None:
    rows = [{"time": time} for time in times]
    assert scripts.steps.whole_steps(rows) == seconds
    assert scripts.steps.steady_step(rows) == steady


def test_a_pass_has_as_many_tokens_whatever_the_length(scripts: Any, tmp_path: Path) -> None:
    for case in scripts.cases.GROWTH:
        grpo = scripts.cases.configuration(case, tmp_path, tmp_path)["grpo"]
        rows, passes = grpo["per_device_train_batch_size"], grpo["gradient_accumulation_steps"]
        completions, tokens = map(int, case.name.split("x"))
        assert rows * passes == completions
        assert rows * tokens <= 64 * 256
        assert rows == completions or rows * tokens == 64 * 256


def test_every_configuration_is_valid(scripts: Any, tmp_path: Path) -> None:
    cases = scripts.cases
    named = [case for of_set in cases.SETS.values() for case in of_set]
    for case in (*named, *cases.BACKENDS, *cases.MORE_BACKENDS):
        check_grpo(check_config(cases.configuration(case, tmp_path, tmp_path), case.name).grpo)


def test_vllm_is_compared_with_graph_on_equal_terms(scripts: Any, tmp_path: Path) -> None:
    made = {
        case.name: scripts.cases.configuration(case, tmp_path, tmp_path)
        for case in scripts.cases.SPEED
    }
    graph, vllm = made["graph"], made["vllm"]
    assert vllm.pop("rollout") == "vllm"
    assert vllm["grpo"].pop("vllm_gpu_memory_utilization") <= 0.3
    assert graph.pop("rollout") == "graph"
    assert vllm == graph


def test_a_card_gets_the_longest_completions_that_fit_it(scripts: Any, tmp_path: Path) -> None:
    model, gpu = Path("gemma-3-4b-random"), nearest_gpu("NVIDIA H200", 0.0)
    (case,) = (case for case in scripts.cases.CARDS if case.name == "24gb-4b-4bit")
    fit = scripts.steps.fitting(case, model, tmp_path, gpu, step_s=1e9)
    assert fit.changes["grpo.max_completion_length"] == 16384  # what limits-h200.json measured
    assert fit.prompts == 8
    quick = scripts.steps.fitting(case, model, tmp_path, gpu, step_s=130)
    assert quick.prompts < 8
    with pytest.raises(UserError, match="not even 512 tokens fit"):
        scripts.steps.fitting(case, model, tmp_path, gpu, step_s=1e-3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_script_that_is_ended_takes_its_children_along(
    number: signal.Signals, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    child = tmp_path / "sleeper.py"
    child.write_text(
        f"import os, pathlib, time\npathlib.Path({str(started)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(60)\n",
        encoding="utf-8",
    )
    said = tmp_path / "said"
    script_of_two = tmp_path / "script.py"
    script_of_two.write_text(
        f"""
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from bench.shared.child_process import run_child
here = Path({str(tmp_path)!r})

def run(_):
    ended = run_child([{str(child)!r}], cwd=here, environment={{}}, limit_s=60)
    Path({str(said)!r}).write_text(ended["ending"])

run_child(["-c", "pass"], cwd=here, environment={{}}, limit_s=60)
with ThreadPoolExecutor(1) as pool:
    list(pool.map(run, range(2)))
""",
        encoding="utf-8",
    )
    script = subprocess.Popen(
        [sys.executable, str(script_of_two)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    until = time.monotonic() + 60
    while not (started.is_file() and started.read_text(encoding="utf-8")):
        assert time.monotonic() < until
        time.sleep(0.05)
    script.send_signal(number)
    assert script.wait(60) == 128 + number
    assert not said.is_file(), "a child that was ended has no result"
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text(encoding="utf-8")), 0)
