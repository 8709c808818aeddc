"""Seconds and memory of a GRPO step, at true Gemma 3 shapes with random weights.

    python -m bench.training.steps speed --gsm8k FOLDER --out speed.json --only graph generate
    python -m bench.training.steps growth --gsm8k FOLDER --out growth.json
    python -m bench.training.steps cards --gsm8k FOLDER --out cards.json
    python -m bench.training.steps switches --gsm8k FOLDER --out switches.json

`speed` compares engines and backends, `growth` sizes of a step, `cards` trains with the longest
completion that the plan says fits a smaller card, whose memory this GPU is capped at; `switches`
sets all, each alone and none of what is off until it is measured (`cases.py`), of which most is
spared where replies end by themselves: give it a real model by `--model`.
Every case is `xmlgrpo-train` (`trl`: trl and peft without us) in a process of its own, one after
another; what the file holds of others is kept.  Of a random model's 262,144 equally likely tokens
two end a completion, so that nearly every one has its full length; the mean stands in the result.
"""

import argparse
import dataclasses
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from bench.shared.cases import SETS, Case, configuration
from bench.shared.child_process import run_child
from bench.shared.random_model import given_or_made
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest
from xmlgrpo_run.metrics import read_log
from xmlgrpo_trainer.config.run_config import check_config
from xmlgrpo_trainer.plan.gpus import Gpu, nearest_gpu
from xmlgrpo_trainer.plan.make import make_plan

FACTS = ("hardware", "rollout", "versions", "commit")  # of a manifest, beside what was measured
WARM_STEPS = 2  # the first ones compile, capture, plan and fill caches
LENGTHS = (32256, 24576, 16384, 12288, 8192, 6144, 4096, 3072, 2048, 1536, 1024, 768, 512)
PROMPTS = (8, 4, 2, 1)  # on a card: as many as let a step end in time


def overridden(words: Sequence[str]) -> dict[str, Any]:
    """What the words `key=value` of a command line change."""
    return {key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in words)}


def logged_steps(run: RunFolder) -> list[Mapping[str, Any]]:
    """What a run has logged of each step."""
    return [row for row in read_log(run.metrics).rows.values() if "loss" in row]


def whole_steps(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Seconds of every step but the first, with all that is between two steps."""
    return [after["time"] - before["time"] for before, after in pairwise(rows)]


def steady_step(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The median of the steps after the warm ones; None when there are none."""
    steady = whole_steps(rows)[WARM_STEPS - 1 :]
    return median(steady) if steady else None


def timed(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The steady step and each step but the first, in seconds."""
    steady_s = steady_step(rows)
    return {
        "step_s": None if steady_s is None else round(steady_s, 4),
        "step_s_all": [round(value, 4) for value in whole_steps(rows)],
    }


def train(case: Case, model: Path, gsm8k: Path, place: Path, limit_s: float) -> dict[str, Any]:
    """Train one case; what it took.

    Args:
        case: what to train.
        model: its folder.
        gsm8k: folder of the problems.
        place: a new folder for the run and whatever the libraries write.
        limit_s: longest process.
    """
    place.mkdir(parents=True)
    raw = configuration(case, model, gsm8k)
    config, memory, run = place / "config.yaml", place / "memory.json", RunFolder(place / "run")
    config.write_text(yaml.safe_dump(raw), encoding="utf-8")
    words = ["--config", str(config), "--run", str(run.root)]
    if case.alone:
        script = ["-m", "bench.training.trl_alone", "--memory", str(memory), *words]
    else:
        capped = ["--card-gib", str(case.card_gib)] if case.card_gib else []
        script = ["-m", "bench.shared.measured_command", *capped]
        script += [str(memory), "xmlgrpo-train", *words]
    environment = {"UNSLOTH_COMPILE_LOCATION": str(place / "unsloth"), **case.environment}
    ended = run_child(script, cwd=place, environment=environment, limit_s=limit_s)
    rows = logged_steps(run)
    steady = [row for row in rows[WARM_STEPS:] if "rollout_time" in row]
    last = rows[-1] if rows else {}
    manifest = read_manifest(run).as_json() if run.manifest.is_file() else {}
    return {
        "exit_code": ended["exit_code"],
        "ending": ended["ending"],
        "whole_run_s": ended["seconds"],
        **timed(rows),
        "rollout_s": median(row["rollout_time"] for row in steady) if steady else None,
        "mean_tokens": last.get("completions/mean_length"),
        "mismatch": {name: value for name, value in last.items() if name.startswith("sampling/")},
        "grad_norm": [row.get("grad_norm") for row in rows],
        "memory": json.loads(memory.read_text(encoding="utf-8")) if memory.is_file() else None,
        "config": configuration(case, Path(model.name), Path("gsm8k")),  # no path of this machine
        **{name: manifest.get(name) for name in ("versions", "hardware", "backend", "rollout")},
        "last_lines": [] if ended["exit_code"] == 0 else ended["last_lines"][-15:],
    }


def fitting(case: Case, model: Path, gsm8k: Path, gpu: Gpu | None, step_s: float) -> Case:
    """The case with the longest completions that the plan says fit its card.

    With fewer prompts where a step would otherwise be longer than `step_s`: what fits hardly
    depends on them.

    Raises:
        UserError: nothing fits.
    """
    if case.card_gib is None:
        return case
    card = gpu and dataclasses.replace(gpu, memory_gib=case.card_gib)
    for tokens in LENGTHS if card else (16,):
        for prompts in PROMPTS:
            changes = case.changes | {"grpo.max_completion_length": tokens}
            tried = dataclasses.replace(case, changes=changes, prompts=prompts)
            config = check_config(configuration(tried, model, gsm8k), case.name)
            plan = make_plan(config, card, has_liger=card is not None)
            if not plan.fits:
                break
            if plan.pace is None or plan.pace.rollout_s + plan.pace.update_s <= step_s:
                return tried
    raise UserError(f"{case.name}: by the plan not even {LENGTHS[-1]} tokens fit in {step_s:.0f} s")


def found_gpu() -> Gpu | None:
    """The first GPU, asked of its driver: torch would keep a context of its own on it."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "-i", "0", "--query-gpu=name,memory.total"]
    ran = subprocess.run(
        [*query, "--format=csv,noheader,nounits"], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        return None
    name, total_mib = ran.stdout.strip().splitlines()[0].rsplit(",", 1)
    return nearest_gpu(name, float(total_mib) / 1024)


def line(name: str, result: Mapping[str, Any]) -> str:
    """A result for people; the last words of one that failed."""
    peak = (result["memory"] or {}).get("allocated_gib")
    shown = (
        f"{name:28} {result['ending']:14} step {result['step_s']} s  {result['step_s_all']}  "
        f"{result['mean_tokens']} tokens  peak {peak} GiB"
    )
    return "\n".join([shown, *result["last_lines"]])


def main() -> int:
    """Measure what was asked for, write after each, print a line for each; 1 when one failed."""
    names = [case.name for cases in SETS.values() for case in cases]
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("set", choices=SETS)
    made.add_argument("--gsm8k", type=Path, required=True, help="folder with train.jsonl")
    made.add_argument("--out", type=Path, required=True, help="the JSON file of the results")
    made.add_argument("--size", default="1b", help="see random_model.py; default: 1b")
    made.add_argument("--model", type=Path, help="use this model folder instead of making one")
    made.add_argument("--only", nargs="+", choices=names, metavar="NAME")
    made.add_argument("--limit-s", type=float, default=600, help="longest run")
    made.add_argument("--step-s", type=float, default=60, help="cards: longest step, by the plan")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="for every case")
    asked = made.parse_intermixed_args()
    cases = [case for case in SETS[asked.set] if asked.only is None or case.name in asked.only]
    changes = overridden(asked.overrides)
    gsm8k, gpu = asked.gsm8k.resolve(), found_gpu()
    kept = json.loads(asked.out.read_text())["results"] if asked.out.is_file() else {}
    found: dict[str, Any] = {"gpu": gpu and gpu.name, "set": asked.set, "results": kept}
    failed = False
    with tempfile.TemporaryDirectory(prefix="steps-") as scratch:
        for case in cases:
            size = asked.size if asked.size == "tiny" else case.size or asked.size
            folder = Path(scratch)
            model = given_or_made(asked.model, size, gsm8k, folder, asked.limit_s)
            whole = dataclasses.replace(case, changes=case.changes | changes)
            fit = fitting(whole, model, gsm8k, gpu, asked.step_s)
            result = train(fit, model, gsm8k, folder / case.name, asked.limit_s)
            shutil.rmtree(folder / case.name)  # checkpoints: the disk may be small
            found["results"][case.name] = {"card_gib": case.card_gib, **result}
            write_json(asked.out, found)
            print(line(case.name, result), flush=True)
            failed |= result["exit_code"] != 0
    return int(failed)


if __name__ == "__main__":
    run_command(main)
