"""One run on one GPU and the same run on several: time of a step, speed-up, reward curves.

    python -m bench.several_gpus.speed_up --random 1b --gsm8k folder --out two-gpus.json \
        --config configs/gemma3-1b.yaml grpo.max_completion_length=256
    python -m bench.several_gpus.speed_up --config configs/tiny.yaml --steps 60 --out two-ranks.json

Every run is `xmlgrpo-train --gpus N` on the same configuration and seed, so that the batch is the
same; words after the options are overrides for all of them.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from bench.shared.random_model import SIZES, make_random_model
from bench.training.steps import FACTS, WARM_STEPS, logged_steps, timed
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest

KEPT = ("step", "reward", "reward_std", "step_time", "completions/mean_length", "grad_norm")


def main() -> int:
    """Run them one after another, write what was measured after each, print a line for each."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--config", required=True, help="as for xmlgrpo-train")
    made.add_argument("--steps", type=int, default=8)
    made.add_argument("--gpus", type=int, nargs="+", default=[1, 2], metavar="N")
    made.add_argument("--random", choices=tuple(SIZES), help="random weights of this shape")
    made.add_argument("--gsm8k", type=Path, help="folder with train.jsonl; needed by --random")
    made.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    made.add_argument("overrides", nargs="*", metavar="key=value")
    asked = made.parse_intermixed_args()
    if asked.steps <= WARM_STEPS:
        raise UserError(f"--steps: expected more than {WARM_STEPS}, got {asked.steps}")
    if asked.random and asked.gsm8k is None:
        raise UserError("--random needs --gsm8k, the folder that the tokenizer learns from")
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        overrides = [
            "model.backend=plain",  # Unsloth trains on one GPU only
            f"grpo.max_steps={asked.steps}",
            "holdout.report_rows=16",
            "holdout.validation_rows=0",
            *asked.overrides,
        ]
        if asked.random:
            make_random_model(runs / "model", asked.random, asked.gsm8k)
            overrides += [f"model.name={runs / 'model'}", "data.source=json"]
            overrides += [f"data.path={asked.gsm8k.resolve()}"]
        results: dict[int, dict[str, Any]] = {}
        for gpus in asked.gpus:
            results[gpus] = measured(
                asked.config, gpus, RunFolder(runs / f"gpus-{gpus}"), overrides
            )
            found = summary(asked.config, overrides, results)
            write_json(asked.out, found)
            print(f"{gpus} process(es): {found['compared'][gpus]}", flush=True)
    return 0


def measured(config: str, gpus: int, run: RunFolder, overrides: list[str]) -> dict[str, Any]:
    """Train once and read what the run has logged.

    Raises:
        UserError: the training ended with an error, which it has said.
    """
    began = time.monotonic()
    command = [sys.executable, "-m", "xmlgrpo_trainer.cli", "--config", config]
    command += ["--run", str(run.root), "--gpus", str(gpus), *overrides]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise UserError(f"the run with {gpus} process(es) ended with exit code {code}")
    rows = logged_steps(run)
    times = timed(rows)
    if times["step_s"] is None:
        raise UserError(f"the run with {gpus} process(es) ended after {len(rows)} warm steps")
    manifest = read_manifest(run).as_json()
    return {
        "gpus": gpus,
        "whole_run_s": round(time.monotonic() - began, 1),
        **times,
        "trl_step_s": round(median(row["step_time"] for row in rows[WARM_STEPS:]), 4),
        "steps": [{name: row.get(name) for name in KEPT} for row in rows],
        **{name: manifest[name] for name in ("holdout", *FACTS)},
    }


def summary(
    config: str, overrides: list[str], results: dict[int, dict[str, Any]]
) -> dict[str, Any]:
    """The runs, and each compared with the first."""
    first = next(iter(results.values()))
    compared = {}
    for gpus, result in results.items():
        reward, error = late_reward(result)
        compared[gpus] = {
            "step_s": result["step_s"],
            "speed_up": round(first["step_s"] / result["step_s"], 3),
            "late_reward": round(reward, 4),
            "late_reward_standard_error": round(error, 4),
            **difference(first, result),
        }
    return {
        "config": Path(config).name,
        "overrides": [word for word in overrides if "/" not in word],  # no paths of this machine
        "compared": compared,
        "runs": list(results.values()),
    }


def late_reward(result: dict[str, Any]) -> tuple[float, float]:
    """Mean reward of the last half of the steps, and its standard error over those steps."""
    rewards = [row["reward"] for row in result["steps"]]
    late = rewards[len(rewards) // 2 :]
    return mean(late), stdev(late) / len(late) ** 0.5 if len(late) > 1 else 0.0


def difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Mean reward of a step less that of the same step of `one`, which saw the same problems.

    Over all steps, with its standard error: within two of them the curves are one.
    """
    rewards = ([row["reward"] for row in run["steps"]] for run in (one, other))
    apart = [theirs - ours for ours, theirs in zip(*rewards, strict=True)]
    error = stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else 0.0
    return {"difference": round(mean(apart), 4), "difference_standard_error": round(error, 4)}


if __name__ == "__main__":
    run_command(main)
