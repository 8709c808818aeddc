r"""A GRPO step on 1, 2, 4 and 8 GPUs of one machine: how long, and where the seconds go.

    python -m bench.several_gpus.scaling --gsm8k FOLDER --out scaling.json --gpus 1 2 4 8
    python -m bench.several_gpus.scaling model.device=cpu --sizes tiny --prompts 4 --tokens 8 \
        --gpus 1 2 4 --gsm8k FOLDER --out tiny.json

Prompts x 8 completions x 256 tokens a step, random weights of Gemma 3's shapes.  Measured is each
batch of `--prompts` on every number of GPUs (the same batch: strong scaling), and N times that
batch on N GPUs (the same batch a GPU: weak scaling); `scaling_table.py` makes table and plot of it.
A case that stands in the file is not measured again, what is quick is measured first, and nothing
is begun that `--until-s` would cut: the same command continues.
"""

import argparse
import dataclasses
import json
import shutil
import tempfile
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any

import yaml

from bench.shared.cases import GROUP, PARTS, Case, Point, configuration, points
from bench.shared.child_process import run_child
from bench.shared.random_model import SIZES, given_or_made
from bench.training.steps import FACTS, WARM_STEPS, logged_steps, overridden, timed
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest

LAUNCH_FILE = Path(__file__).resolve().parents[2] / "configs" / "accelerate" / "multi_gpu.yaml"
ROWS = {"tiny": 8, "1b": 64, "4b": 16}  # completions of a backward pass on one GPU
# over NVLink: it needs rights that a container may lack, and can leave a shared host without GPUs
NO_MULTICAST = {
    "NCCL_NVLS_ENABLE": "0",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "NVSHMEM_DISABLE_NVLS": "1",
}
TIMED_STEPS = 3  # after those whose time is reported; the last of them has no end


def measure(
    point: Point, model: Path, gsm8k: Path, place: Path, asked: argparse.Namespace
) -> dict[str, Any]:
    """Train a few steps, and read what was logged and timed.

    Raises:
        UserError: the training ended with an error, or too soon.
    """
    place.mkdir(parents=True)
    rows = ROWS[point.size]
    changes = {
        "rollout": "graph",
        "data.limit": max(256, 2 * point.prompts),
        "grpo.max_completion_length": asked.tokens,
        "grpo.per_device_train_batch_size": min(rows, point.prompts * GROUP),
        "grpo.gradient_checkpointing": point.size == "4b",
        "grpo.max_steps": asked.steps + TIMED_STEPS,
        **overridden(asked.overrides),
    }
    case = Case("scaling", changes, prompts=point.prompts)
    config, parts, run = place / "config.yaml", place / "parts", RunFolder(place / "run")
    config.write_text(yaml.safe_dump(configuration(case, model, gsm8k)), encoding="utf-8")
    script = ["-m", "bench.several_gpus.rank_clock", str(parts), str(asked.steps)]
    if point.gpus > 1:
        launch = ["-m", "accelerate.commands.launch", "--config_file", str(LAUNCH_FILE)]
        script = [*launch, "--num_processes", str(point.gpus), *script]
    ended = run_child(
        [*script, "--config", str(config), "--run", str(run.root)],
        cwd=place,
        environment={"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(point.gpus))), **NO_MULTICAST},
        limit_s=asked.limit_s,
        grace_s=40,
    )
    if ended["exit_code"] != 0:
        last = "\n".join(ended["last_lines"])
        raise UserError(f"{point} ended with {ended['ending']}; its last lines:\n{last}")
    logged = logged_steps(run)
    untouched = logged[: asked.steps]
    ranks = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(parts.glob("*.json"))]
    times = timed(untouched)
    if times["step_s"] is None or len(ranks) != point.gpus:
        raise UserError(f"{point}: {len(logged)} steps by {len(ranks)} processes were logged")
    manifest = read_manifest(run).as_json()
    return {
        **dataclasses.asdict(point),
        **times,
        "timed_step_s": [round(sum(step.values()), 4) for step in ranks[0]["steps"]],
        "parts_s": {
            part: round(fmean(median(step[part] for step in rank["steps"]) for rank in ranks), 4)
            for part in PARTS
        },
        "ranks": ranks,
        "mean_tokens": round(fmean(row["completions/mean_length"] for row in untouched), 1),
        "max_tokens": asked.tokens,
        "whole_run_s": ended["seconds"],
        "grad_norm": [row.get("grad_norm") for row in logged],
        **{name: manifest[name] for name in FACTS},
    }


def main() -> int:
    """Measure what is asked for and not yet in the file; write and print after each."""
    began = time.monotonic()
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--gsm8k", type=Path, required=True, help="folder with train.jsonl")
    made.add_argument(
        "--out", type=Path, required=True, help="the JSON file; continued where it is there"
    )
    made.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=["1b", "4b"])
    made.add_argument("--prompts", nargs="+", type=int, default=[32, 128], help="of one step")
    made.add_argument("--gpus", nargs="+", type=int, default=[1, 2, 4, 8], metavar="N")
    made.add_argument("--tokens", type=int, default=256, help="longest completion")
    made.add_argument(
        "--steps", type=int, default=7, help="whose time is reported, warm ones included"
    )
    made.add_argument("--model", type=Path, help="use this model folder (with one of --sizes)")
    made.add_argument("--limit-s", type=float, default=500, help="longest run")
    made.add_argument(
        "--until-s", type=float, default=float("inf"), help="begin nothing that ends later"
    )
    made.add_argument("overrides", nargs="*", metavar="key=value", help="for every run")
    asked = made.parse_intermixed_args()
    if asked.steps <= WARM_STEPS:
        raise UserError(f"--steps: expected more than {WARM_STEPS}, got {asked.steps}")
    gsm8k = asked.gsm8k.resolve()
    results = json.loads(asked.out.read_text())["results"] if asked.out.is_file() else []
    wanted = points(asked.sizes, asked.prompts, asked.gpus)
    with tempfile.TemporaryDirectory(prefix="scaling-") as scratch:
        longest = 0.0
        for point in wanted:
            if point.stands_in(results):
                continue
            if time.monotonic() - began + longest > asked.until_s:
                print("the rest is for another time: run the same command again", flush=True)
                break
            model = given_or_made(asked.model, point.size, gsm8k, Path(scratch), asked.limit_s)
            place = Path(scratch) / "run"
            result = measure(point, model, gsm8k, place, asked)
            shutil.rmtree(place)  # checkpoints: the disk may be small
            longest = max(longest, result["whole_run_s"])
            results.append(result)
            write_json(asked.out, {"results": results})
            shown = "  ".join(f"{part} {seconds}" for part, seconds in result["parts_s"].items())
            print(f"{point}: {result['step_s']} s a step  {shown}", flush=True)
    return 0


if __name__ == "__main__":
    run_command(main)
