"""The GPU's scripts, on the CPU with a tiny shape."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "ci" / "gpu"
ON_CPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


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


@pytest.mark.scripts
def test_a_run_is_trained_merged_and_compared(problems: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = [
        sys.executable,
        str(SCRIPTS / "end_to_end.py"),
        "--gsm8k",
        str(problems),
        "--out",
        str(out),
    ]
    small = ["--size", "tiny", "--steps", "2", "--prompts", "2", "--completion-tokens", "8"]
    # unsloth needs a GPU: its failure must not stop the other
    names = ["--only", "unsloth-16-graph", "plain-16-graph"]
    ran = subprocess.run(
        [*command, *small, *names],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **ON_CPU},
    )
    runs = json.loads(out.read_text(encoding="utf-8"))["runs"]
    plain, unsloth = runs["plain-16-graph"], runs["unsloth-16-graph"]
    assert plain["train"]["exit_code"] == 0, ran.stdout
    assert len([seconds for seconds in plain["train"]["step_s"] if seconds]) == 2
    assert plain["train"]["left_behind"] == []
    assert plain["merge_float32"]["parity"]["passed"]
    assert "needs a CUDA GPU" in unsloth["train"]["last_lines"][-1]
    assert ran.returncode == 1, "one of two failed"


@pytest.mark.scripts
def test_the_longest_completion_is_tried_and_written_down(problems: Path, tmp_path: Path) -> None:
    out = tmp_path / "limits.json"
    earlier = {"cases": {"16gb-1b": {"longest_that_ran": 2048}}}
    out.write_text(json.dumps(earlier), encoding="utf-8")
    command = [sys.executable, str(SCRIPTS / "limits.py"), "--gsm8k", str(problems)]
    ran = subprocess.run(
        [*command, "--out", str(out), "--size", "tiny"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **ON_CPU},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    cases = json.loads(out.read_text(encoding="utf-8"))["cases"]
    assert cases["16gb-1b"] == earlier["cases"]["16gb-1b"], "another call's result is kept"
    tiny = cases["tiny"]
    assert tiny["longest_that_ran"] == tiny["plan_says_fits"] == 16
    assert tiny["shortest_that_failed"] is None
    (tried,) = tiny["tried"]
    assert tried["prompts"] == 8
    assert len(tried["step_s"]) == 2
    assert tried["mean_tokens"] > 8, "a random model seldom stops by itself"
    assert tried["plan"]["fits"]
    assert tried["memory"] is None, "no GPU was used"


@pytest.mark.scripts
def test_a_step_is_timed_at_every_size(problems: Path, tmp_path: Path) -> None:
    out = tmp_path / "growth.json"
    command = [sys.executable, str(SCRIPTS / "step_growth.py"), "--gsm8k", str(problems)]
    ran = subprocess.run(
        [*command, "--out", str(out), "--size", "tiny"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **ON_CPU},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    cases = json.loads(out.read_text(encoding="utf-8"))["growth"]
    assert {name: case["completions"] for name, case in cases.items()} == {"16x8": 16, "32x8": 32}
    for case in cases.values():
        assert case["exit_code"] == 0
        assert len(case["step_s_all"]) == 5
        assert case["step_s"] > 0
        assert 7 < case["mean_tokens"] <= 8


def test_a_pass_has_as_many_tokens_whatever_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from step_growth import CASES, variant

    sizes = {case.name: variant(case).micro_batch for case in CASES}
    assert sizes["16x256"] == 16
    assert sizes["1024x256"] == sizes["64x256"] == 64
    assert sizes["64x4096"] == 4
    assert all(case.completions % sizes[case.name] == 0 for case in CASES)


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
from child import run_child
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
        [sys.executable, str(script_of_two)], env={**os.environ, "PYTHONPATH": str(SCRIPTS)}
    )
    until = time.monotonic() + 30
    while not (started.is_file() and started.read_text(encoding="utf-8")):
        assert time.monotonic() < until
        time.sleep(0.05)
    script.send_signal(number)
    assert script.wait(30) == 128 + number
    assert not said.is_file(), "a child that was ended has no result"
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text(encoding="utf-8")), 0)


def test_vllm_is_compared_with_graph_on_equal_terms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from speed import VARIANTS, Work, configuration

    from xmlgrpo_trainer.config.library_fields import check_grpo
    from xmlgrpo_trainer.config.run_config import check_config

    made = {v.name: configuration(v, tmp_path, tmp_path, Work(256)) for v in VARIANTS}
    for name, raw in made.items():
        check_grpo(check_config(raw, name).grpo)
    graph, vllm = made["graph"], made["vllm"]
    assert vllm.pop("rollout") == "vllm"
    assert vllm["grpo"].pop("vllm_gpu_memory_utilization") <= 0.3
    assert graph.pop("rollout") == "graph"
    assert vllm == graph


def test_vllm_travels_in_parts_and_arrives_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from offline_vllm import pack

    kept = {
        "vllm/__init__.py": b"",
        "vllm/_C_stable_libtorch.abi3.so": os.urandom(5000),
        "vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so": os.urandom(3000),
        "vllm-0.24.0.dist-info/METADATA": b"Name: vllm",
    }
    left_out = [
        "vllm/vllm-rs",
        "vllm/_moe_C_stable_libtorch.abi3.so",
        "vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so",
        "vllm/third_party/deep_gemm/include/cute/arch/mma_sm90.hpp",
    ]
    wheel = tmp_path / "vllm-0.24.0-cp38-abi3-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as members:
        for name, data in {**kept, **dict.fromkeys(left_out, b"large")}.items():
            members.writestr(name, data)
    parts = pack([wheel], tmp_path / "part", 4096)
    assert len(parts) > 1
    assert all(part.stat().st_size <= 4096 for part in parts)
    assert [part.parent.name for part in parts] == [f"part{n + 1}" for n in range(len(parts))]
    whole = b"".join(part.read_bytes() for part in parts)
    site = tmp_path / "site"
    unpack = [sys.executable, str(SCRIPTS / "offline_vllm.py"), "--unpack", str(site)]
    subprocess.run(unpack, input=whole, check=True)
    found = {p.relative_to(site).as_posix(): p for p in site.rglob("*") if p.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == kept
