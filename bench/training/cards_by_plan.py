"""What the switches spare on cards that nobody measured, by the plan's calculation.

    python -m bench.training.cards_by_plan --out docs/measured/cards-by-plan.json

The shipped 1B configuration with texts of 256 + 256 tokens, trained without Unsloth, as it is and
with packed rows; on a T4, which has no bfloat16, with float16 factors too.  Every reply as long as
allowed and every prompt the longest: of shorter ones packing spares more.  Nothing is run.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_json
from xmlgrpo_trainer.config.run_config import load_config
from xmlgrpo_trainer.plan.gpus import Gpu, find_gpu
from xmlgrpo_trainer.plan.make import make_plan

CONFIG = Path("configs/gemma3-1b.yaml")
CARDS = ("T4", "L4", "RTX 4090")
PLAIN = [
    *("model.backend=plain", "data.max_prompt_tokens=256", "grpo.max_completion_length=256"),
    *("grpo.per_device_train_batch_size=8", "grpo.gradient_accumulation_steps=32"),  # a group
]
PACKED = ["packed_rows=true", "fetch_once=true"]
# on a T4 graph's kernels may not compile, and float16 factors need generate
ON_A_T4, FLOAT16 = ["rollout=generate", "holdout.batch_size=16"], ["model.float16_products=true"]


def main() -> int:
    """Plan and write the file."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path, required=True)
    asked = options.parse_args()
    rows = []
    for card in CARDS:
        before, after = PLAIN, PLAIN + PACKED
        if card == "T4":
            before, after = before + ON_A_T4, after + ON_A_T4 + FLOAT16
        gpu = find_gpu(card)
        rows += [{"card": card, "changes": way, **planned(gpu, way)} for way in (before, after)]
    write_json(asked.out, {"planned_from": CONFIG.name, "rows": rows})
    print(json.dumps(rows, indent=1))
    return 0


def planned(gpu: Gpu, changes: list[str]) -> dict[str, Any]:
    """Seconds and memory of a step, and tokens drawn and learnt from per second."""
    plan = make_plan(load_config(CONFIG, changes), gpu, has_liger=True)
    if plan.pace is None:
        raise UserError(f"the plan has no pace for {gpu.name}")
    step_s = plan.pace.rollout_s + plan.pace.update_s
    return {
        "rollout_s": round(plan.pace.rollout_s, 1),
        "update_s": round(plan.pace.update_s, 1),
        "tokens_per_s": round(plan.load.rows * plan.load.completion_tokens / step_s),
        "peak_gib": round(plan.peak.total, 1),
        "fits": plan.peak.total <= gpu.memory_gib,
    }


if __name__ == "__main__":
    run_command(main)
