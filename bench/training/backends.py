"""Every backend, number type and rollout engine through our own commands: train, merge, compare.

    python -m bench.training.backends --gsm8k FOLDER --out backends.json
    python -m bench.training.backends --gsm8k FOLDER --out found.json --only plain-16-vllm --jobs 4

Each case (`BACKENDS` in cases.py) is trained for four steps of 64 completions of 64 tokens, then
merged twice by the command that compares the adapter on its base with the merged folder.  In
float32 both must answer alike.  In bfloat16 the comparison is only noted: the best two of random
weights' 262,144 tokens are so near one another that rounding decides between them.  With `--jobs`
several run at once, and then the seconds mean nothing.  `--size tiny` runs on a CPU.
"""

import argparse
import dataclasses
import json
import shutil
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.shared.cases import BACKENDS, MORE_BACKENDS, Case
from bench.shared.child_process import end_with_this_process, run_child
from bench.shared.random_model import given_or_made
from bench.training.steps import line, train
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import MERGE_RECORD

LEAST_S = 30  # with less time left, nothing is started
COMPARED_TOKENS = 16  # of each reply
TINY = {"grpo.max_steps": 2, "grpo.max_completion_length": 8}


def merge(run: Path, dtype: str, limit_s: float) -> dict[str, Any]:
    """Merge a run into its base in one number type; how both compare."""
    out = run.with_name(f"merged-{dtype}")
    script = ["-m", "bench.shared.measured_command", str(run.with_name("merge-memory.json"))]
    script += ["xmlgrpo-export", "merge", "--run", str(run), "--out", str(out), "--dtype", dtype]
    script += ["--new-tokens", str(COMPARED_TOKENS)]
    ended = run_child(script, cwd=run.parent, environment={}, limit_s=limit_s)
    for folder in (out, out.with_name(f"{out.name}.rejected")):
        record = folder / MERGE_RECORD
        if record.is_file():
            ended["parity"] = json.loads(record.read_text(encoding="utf-8"))["parity"]
        shutil.rmtree(folder, ignore_errors=True)  # gigabytes, and nothing more is asked of it
    return ended


def main() -> int:
    """Run what was asked for, write after each stage; 1 when something failed."""
    every = {case.name: case for case in BACKENDS + MORE_BACKENDS}
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--gsm8k", type=Path, required=True, help="folder with train.jsonl")
    made.add_argument("--out", type=Path, required=True, help="the JSON file of the results")
    made.add_argument("--size", default="1b", help="see random_model.py; default: 1b")
    made.add_argument("--model", type=Path, help="use this model folder instead of making one")
    made.add_argument("--only", nargs="+", choices=every, metavar="NAME")
    made.add_argument("--limit-s", type=float, default=240, help="longest training or merge")
    made.add_argument("--budget-s", type=float, default=3600, help="of all together")
    made.add_argument("--jobs", type=int, default=1, help="cases at a time")
    asked = made.parse_args()
    deadline = time.monotonic() + asked.budget_s
    found: dict[str, Any] = {"size": asked.size, "jobs": asked.jobs, "runs": {}}
    writing = threading.Lock()

    def note(case: Case, stage: str, result: dict[str, Any]) -> None:
        with writing:
            found["runs"].setdefault(case.name, {})[stage] = result
            write_json(asked.out, found)

    def seconds_left() -> float:
        return float(min(asked.limit_s, deadline - time.monotonic()))

    def run(case: Case) -> bool:
        if seconds_left() < LEAST_S:
            print(f"{case.name:26} not started: no time left", flush=True)
            return False
        place = folder / case.name
        result = train(case, model, asked.gsm8k.resolve(), place, seconds_left())
        note(case, "train", result)
        print(line(case.name, result), flush=True)
        ended_well = bool(result["exit_code"] == 0)
        dtype = "float32" if asked.size == "tiny" else "bfloat16"
        for merged_in in dict.fromkeys((dtype, "float32")) if ended_well else ():
            merged = merge(place / "run", merged_in, max(1.0, seconds_left()))
            note(case, f"merge_{merged_in}", merged)
            print(f"{case.name:26} merge {merged_in}: {merged['ending']}", flush=True)
            ended_well = bool(merged["exit_code"] == 0) or merged_in != "float32"
        return ended_well

    cases = [every[name] for name in asked.only] if asked.only else list(BACKENDS)
    if asked.size == "tiny":
        cases = [dataclasses.replace(c, changes=c.changes | TINY, prompts=2) for c in cases]
    end_with_this_process()
    with tempfile.TemporaryDirectory(prefix="backends-") as scratch:
        folder = Path(scratch)
        model = given_or_made(asked.model, asked.size, asked.gsm8k, folder, asked.limit_s).resolve()
        with ThreadPoolExecutor(asked.jobs) as pool:
            ended_well = list(pool.map(run, cases))
    return int(not all(ended_well))


if __name__ == "__main__":
    run_command(main)
