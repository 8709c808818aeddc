"""Does GRPO raise correctness, not only format?  Pretrain a small Gemma 3, then train it with GRPO.

    python ci/gpu/learn/learn.py --gsm8k FOLDER --out learn.json
    python ci/gpu/learn/learn.py --gsm8k FOLDER --out learn.json --scale tiny     # on a CPU

Four stages, each ended by the clock: tokenizer and data; pretraining; `xmlgrpo-train`; and before
and after the latter an exam on made-up problems and on GSM8K's test split.  No row of the test
split, and no held-out problem, is trained on.  README.md says what is measured and why.
"""

import argparse
import dataclasses
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scales import SCALES, Scale

from xmlgrpo_rewards.errors import run_command

LIBRARIES = ("torch", "transformers", "trl", "peft")


def main() -> int:
    """Run all stages."""
    asked = _options()
    # not at the top: each worker process of the corpus reads this file, and needs none of torch
    import stages  # noqa: PLC0415
    from splits import make_splits  # noqa: PLC0415
    from told import Report  # noqa: PLC0415

    scale = _scaled(SCALES[asked.scale], asked)
    report = Report(asked.out, _head(asked, scale))
    with report.timed("data"):
        splits = make_splits(asked.gsm8k, scale, asked.seed)
    counts = {field.name: len(getattr(splits, field.name)) for field in dataclasses.fields(splits)}
    report.add("rows", counts)
    model = asked.work / "model"
    stages.pretraining(model, splits, scale, asked.seed, report)
    stages.exam("before", model, None, splits=splits, scale=scale, report=report)
    adapter = stages.grpo(
        asked.work, splits, scale, seed=asked.seed, overrides=asked.overrides, report=report
    )
    stages.exam("after", model, adapter, splits=splits, scale=scale, report=report)
    report.end()
    return 0


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--gsm8k", type=Path, required=True, help="train.jsonl and test.jsonl")
    options.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    options.add_argument(
        "--work", type=Path, default=Path("outputs/learn"), help="model, data, run"
    )
    options.add_argument("--scale", choices=SCALES, default="gpu")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--pretrain-s", type=float, help="seconds of pretraining")
    options.add_argument("--grpo-steps", type=int, help="at most so many steps")
    options.add_argument("--grpo-s", type=float, help="seconds after which GRPO is stopped")
    options.add_argument("overrides", nargs="*", metavar="key=value", help="of grpo.yaml")
    return options.parse_intermixed_args()


def _scaled(scale: Scale, asked: argparse.Namespace) -> Scale:
    given = {
        name: getattr(asked, name)
        for name in ("pretrain_s", "grpo_steps", "grpo_s")
        if getattr(asked, name) is not None
    }
    return dataclasses.replace(scale, **given)


def _head(asked: argparse.Namespace, scale: Scale) -> dict[str, Any]:
    import stages  # noqa: PLC0415 - as in main

    from xmlgrpo_trainer.model.load import choose_placement  # noqa: PLC0415
    from xmlgrpo_trainer.run.folder import commit, hardware, now  # noqa: PLC0415

    device = choose_placement(stages.grpo_config(scale).model).device
    return {
        "begun": now(),
        "scale": asked.scale,
        "seed": asked.seed,
        "settings": dataclasses.asdict(scale),
        "overrides": asked.overrides,
        "commit": commit(),
        "versions": {name: version(name) for name in LIBRARIES},
        "hardware": hardware(device),
    }


if __name__ == "__main__":
    run_command(main)
