"""How long the prompts of `speed.py`'s steps are, with the tokenizer of `random_model.py`.

    python ci/gpu/prompt_lengths.py --gsm8k folder-with-train.jsonl --steps 10

A step's texts are padded to its longest prompt: what `plan_error.py` gives the plan beside the
configuration's own bound.  Needs no GPU.
"""

import argparse
from pathlib import Path

from random_model import SIZES, texts_of, train_tokenizer
from speed import GROUP, PROMPTS, VARIANTS, Work, configuration
from trl.trainer.utils import RepeatSampler

from xmlgrpo_rewards.errors import UserError, run_command
from xmlgrpo_rewards.task import get_task
from xmlgrpo_trainer.config.run_config import check_config
from xmlgrpo_trainer.problems.prompts import encode_prompts
from xmlgrpo_trainer.problems.split import drop_long, load_problems


def main() -> int:
    """Print the longest prompt of each step, of all, and the mean of what steps are padded to."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--gsm8k", type=Path, required=True, help="folder with train.jsonl")
    made.add_argument("--steps", type=int, default=10)
    made.add_argument(
        "--prompts", type=int, default=PROMPTS, help="of a step; default: %(default)s"
    )
    asked = made.parse_args()
    if not (asked.gsm8k / "train.jsonl").is_file():
        raise UserError(f"expected train.jsonl in the folder of GSM8K, found none in {asked.gsm8k}")
    if min(asked.steps, asked.prompts) < 1:
        raise UserError("--steps and --prompts: expected 1 or more")
    longest = longest_prompts(asked.gsm8k.resolve(), asked.steps, asked.prompts)
    print(*longest)
    print(f"longest {max(longest)}, padded to {sum(longest) / len(longest):.0f} on average")
    return 0


def longest_prompts(gsm8k: Path, steps: int, prompts: int) -> list[int]:
    """Tokens of the longest prompt of each step; fewer steps where the problems end before."""
    raw = configuration(VARIANTS[0], Path("random"), gsm8k, Work(256))
    config = check_config(raw, "speed.py's configuration")
    tokenizer = train_tokenizer(texts_of(gsm8k / "train.jsonl"), SIZES["1b"].vocabulary)
    task = get_task(config.task)
    problems = load_problems(config.data, config.holdout, task, config.seed, config.model.tiny)
    kept = drop_long(problems, task, tokenizer, config.data.max_prompt_tokens).train
    lengths = list(map(len, encode_prompts(tokenizer, [task.messages(p.question) for p in kept])))
    order = list(RepeatSampler(lengths, GROUP, prompts, seed=config.seed))[::GROUP]
    return [
        max(lengths[number] for number in order[start : start + prompts])
        for start in range(0, min(steps * prompts, len(order)), prompts)
    ]


if __name__ == "__main__":
    run_command(main)
