"""The longest completion that fits into 16, 24 and 80 GB: runs that succeed, and that fail.

    python ci/gpu/limits.py --gsm8k folder-with-train.jsonl --out limits.json --jobs 4

For each case two real steps of `xmlgrpo-train`: the `graph` engine, LoRA with r = 16 on all
projections, 8 prompts x 8 completions, gradient checkpointing, one completion a backward pass.  A
process's memory is capped (`capped.py`), so that one large GPU stands in for several smaller ones,
side by side.  The first length is the longest that the plan says fits; then the next longer or
shorter ones, until one fits and the next does not, three processes a case at most.  What an earlier
call has written into the file is kept.

Completions of random weights run to their limit, but for a few.  Where a step of 64 would take
longer than `--step-s` by the plan, it has fewer prompts, which the result says.
"""

import argparse
import dataclasses
import json
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from child import run_child
from end_to_end import further_versions
from limits_cases import CASES, GROUP, STEPS, TINY, Bench, Case, configuration, found_card
from model_folder import make_model
from trl import GRPOConfig  # noqa: F401 - now: trl's lazy imports are not made for threads

from xmlgrpo_rewards.errors import run_command
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.metrics import read_log
from xmlgrpo_trainer.config.run_config import RunConfig, check_config
from xmlgrpo_trainer.plan.make import Plan, make_plan
from xmlgrpo_trainer.run.folder import versions

HERE = Path(__file__).resolve().parent
PROMPTS = (8, 4, 2, 1)  # as many as let a step end in time
PROCESSES = 3  # of a case
LEAST_S = 60  # with less time left, nothing is started
LENGTHS = (512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32256)
TINY_LENGTHS = (8, 16)
KEPT_LINES = 4


def planned(
    case: Case, bench: Bench, tokens: int, choice: tuple[int, ...] = PROMPTS
) -> tuple[Plan, RunConfig, int]:
    """The plan for a length, its configuration, and as many prompts as let a step end in time."""
    gpu = None
    if bench.card is not None:
        gpu = dataclasses.replace(bench.card, name=case.name, memory_gib=case.memory_gib)
    for prompts in choice:
        raw = configuration(case, bench.models[case.size], bench.gsm8k, tokens, prompts)
        config = check_config(raw, "limits.py")
        plan = make_plan(config, gpu, has_liger=gpu is not None)
        if plan.pace is None or plan.pace.rollout_s + plan.pace.update_s <= bench.step_s:
            break
    return plan, config, prompts


def attempt(case: Case, bench: Bench, tokens: int) -> dict[str, Any]:
    """Train two steps with completions of that length; what happened beside what was planned."""
    plan, config, prompts = planned(case, bench, tokens)
    whole = planned(case, bench, tokens, PROMPTS[:1])[0]
    place = bench.folder / f"{case.name}-{tokens}"
    place.mkdir()
    written, memory, run = place / "config.yaml", place / "memory.json", RunFolder(place / "run")
    written.write_text(yaml.safe_dump(config.model_dump()), encoding="utf-8")
    command = ["xmlgrpo-train", "--config", str(written), "--run", str(run.root)]
    ended = run_child(
        [str(HERE / "capped.py"), str(case.memory_gib), str(memory), *command],
        cwd=place,
        environment={},
        limit_s=max(1.0, min(bench.limit_s, bench.deadline - time.monotonic())),
    )
    rows = [row for row in read_log(run.metrics).rows.values() if "loss" in row]
    result = {
        "tokens": tokens,
        "prompts": prompts,
        "ran": ended["exit_code"] == 0,
        "ending": ended["ending"],
        "out_of_memory": any("out of memory" in line for line in ended["last_lines"]),
        "seconds": ended["seconds"],
        "step_s": [round(row["step_time"], 2) for row in rows if "step_time" in row],
        "mean_tokens": rows[-1].get("completions/mean_length") if rows else None,
        "memory": json.loads(memory.read_text(encoding="utf-8")) if memory.is_file() else None,
        "plan": {
            "allocated_gib": round(plan.peak.allocated, 3),
            "total_gib": round(plan.peak.total, 3),
            "fits": plan.fits,
            "total_gib_with_all_prompts": round(whole.peak.total, 3),
            "step_s": plan.pace and round(plan.pace.rollout_s + plan.pace.update_s, 1),
        },
        "last_lines": [] if ended["exit_code"] == 0 else ended["last_lines"][-KEPT_LINES:],
    }
    shutil.rmtree(place)  # checkpoints: the disk is small
    print(
        f"{case.name:14} {tokens:6} tokens  {prompts} prompts  {result['ending']:14} "
        f"{ended['seconds']:5.0f} s  peak {(result['memory'] or {}).get('allocated_gib')} GiB, "
        f"planned {result['plan']['allocated_gib']}",
        *result["last_lines"][-1:],
        flush=True,
    )
    return result


def find_limit(case: Case, bench: Bench) -> dict[str, Any]:
    """Try lengths from the plan's own on; stop between one that fits and one that does not."""
    fitting = [length for length in bench.lengths if planned(case, bench, length)[0].fits]
    place = bench.lengths.index(fitting[-1]) if fitting else 0
    result: dict[str, Any] = {
        **dataclasses.asdict(case),
        "jobs": bench.jobs,
        "plan_says_fits": fitting[-1] if fitting else None,
        "plan_says_fits_with_all_prompts": max(
            (n for n in bench.lengths if planned(case, bench, n, PROMPTS[:1])[0].fits), default=None
        ),
        "longest_that_ran": None,
        "shortest_that_failed": None,
        "tried": [],
    }
    for _ in range(PROCESSES):
        if bench.deadline - time.monotonic() < LEAST_S:
            result["stopped"] = "no time left"
            break
        tried = attempt(case, bench, bench.lengths[place])
        result["tried"].append(tried)
        if not tried["ran"] and not tried["out_of_memory"]:
            # neither an answer to the question nor a reason to go on
            result["stopped"] = f"{tried['tokens']} tokens: {tried['ending']}"
            break
        if tried["ran"]:
            result["longest_that_ran"] = tried["tokens"]
        else:
            result["shortest_that_failed"] = tried["tokens"]
        bench.note(case.name, result)
        place += 1 if tried["ran"] else -1
        if not 0 <= place < len(bench.lengths):
            break
        if bench.lengths[place] in {other["tokens"] for other in result["tried"]}:
            break
    bench.note(case.name, result)
    return result


def in_its_room(case: Case, bench: Bench) -> dict[str, Any]:
    """Wait until the card has the case's memory free, then find its limit there."""
    with bench.room:
        bench.room.wait_for(lambda: bench.free_gib >= case.memory_gib)
        bench.free_gib -= case.memory_gib
    try:
        return find_limit(case, bench)
    finally:
        with bench.room:
            bench.free_gib += case.memory_gib
            bench.room.notify_all()


def kept_cases(out: Path) -> dict[str, Any]:
    """What an earlier call has found."""
    if not out.is_file():
        return {}
    cases: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))["cases"]
    return cases


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--gsm8k", type=Path, required=True, help="folder with train.jsonl")
    made.add_argument("--out", type=Path, required=True, help="the JSON file of the results")
    made.add_argument("--size", choices=("tiny",), help="only a tiny model, without a cap: a test")
    made.add_argument("--only", nargs="+", choices=[c.name for c in CASES], metavar="NAME")
    made.add_argument("--jobs", type=int, default=1, help="cases at a time, as the GPU has room")
    made.add_argument("--step-s", type=float, default=60, help="longest step, by the plan")
    made.add_argument("--limit-s", type=float, default=300, help="longest process")
    made.add_argument("--budget-s", type=float, default=1500, help="of all together")
    return made


def main() -> int:
    """Find every limit that was asked for; 1 when a case gave no answer."""
    began = time.monotonic()
    asked = parser().parse_args()
    card = None if asked.size else found_card()
    cases = [c for c in CASES if asked.only is None or c.name in asked.only]
    cases = [TINY] if asked.size else cases
    too_large = [c for c in cases if card is not None and c.memory_gib > card.memory_gib]
    found: dict[str, Any] = {
        "card": card and card.name,
        "completions_each": GROUP,
        "steps": STEPS,
        "not_tried": {c.name: "larger than this GPU" for c in too_large},
        "versions": {**versions(), **further_versions()},
        "cases": kept_cases(asked.out),
    }
    cases = [c for c in cases if c not in too_large]
    with tempfile.TemporaryDirectory(prefix="limits-") as scratch:
        folder, gsm8k = Path(scratch), asked.gsm8k.resolve()
        bench = Bench(
            card=card,
            models={
                size: make_model(size, gsm8k, folder, asked.limit_s)
                for size in dict.fromkeys(c.size for c in cases)
            },
            gsm8k=gsm8k,
            folder=folder,
            lengths=TINY_LENGTHS if asked.size else LENGTHS,
            jobs=asked.jobs,
            step_s=asked.step_s,
            limit_s=asked.limit_s,
            deadline=began + asked.budget_s,
            out=asked.out,
            found=found,
            free_gib=card.memory_gib if card else 0.0,
        )
        with ThreadPoolExecutor(asked.jobs) as pool:
            results = list(pool.map(lambda case: in_its_room(case, bench), cases))
    for result in results:
        print(
            f"{result['name']:14} longest that ran {result['longest_that_ran']}, shortest that "
            f"failed {result['shortest_that_failed']}, by the plan {result['plan_says_fits']}"
        )
    return int(any(result["longest_that_ran"] is None for result in results))


if __name__ == "__main__":
    run_command(main)
