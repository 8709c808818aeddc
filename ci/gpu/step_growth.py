"""How a GRPO step grows with its completions and with their length, at the Gemma 3 1B shape.

    python ci/gpu/step_growth.py --gsm8k folder-with-train.jsonl --out growth.json

Every case is `xmlgrpo-train` with the `graph` engine in a process of its own, 8 completions a
prompt, without gradient checkpointing.  A backward pass takes as many completions as have 16,384
tokens together, so that the memory of a pass stays about the same and more work means more passes.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_folder import given_or_made
from speed import GROUP, WHOLE, Variant, Work, line, measure

from xmlgrpo_rewards.errors import run_command
from xmlgrpo_run.files import write_json

PASS_TOKENS = 64 * 256
STEPS = 6


@dataclass(frozen=True, slots=True)
class Case:
    """One size of a step.

    Attributes:
        completions: of all prompts.
        tokens: limit of each.
    """

    completions: int
    tokens: int

    @property
    def name(self) -> str:
        """Also of the result."""
        return f"{self.completions}x{self.tokens}"


CASES = (
    *(Case(completions, 256) for completions in (16, 64, 256, 1024)),
    *(Case(64, tokens) for tokens in (512, 1024, 2048, 4096)),
)
TINY = (Case(16, 8), Case(32, 8))


def variant(case: Case) -> Variant:
    """The case as a configuration."""
    fitting = max(1, PASS_TOKENS // case.tokens)
    return Variant(
        case.name,
        "graph",
        micro_batch=min(case.completions, fitting),
        grpo=WHOLE,
        steps=STEPS,
    )


def main() -> int:
    """Measure every case, write after each, print a line for each."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--gsm8k", type=Path, required=True, help="folder with train.jsonl")
    made.add_argument("--out", type=Path, required=True, help="the JSON file of the results")
    made.add_argument("--size", default="1b", help="see random_model.py; tiny: other cases, a test")
    made.add_argument("--model", type=Path, help="use this model folder instead of making one")
    made.add_argument("--only", nargs="+", choices=[case.name for case in CASES], metavar="CASE")
    made.add_argument("--limit-s", type=float, default=600, help="longest run")
    asked = made.parse_args()
    cases = TINY if asked.size == "tiny" else CASES
    if asked.only is not None:
        cases = tuple(case for case in cases if case.name in asked.only)
    found: dict[str, Any] = {"size": asked.size, "completions_each": GROUP, "growth": {}}
    with tempfile.TemporaryDirectory(prefix="growth-") as scratch:
        folder, gsm8k = Path(scratch), asked.gsm8k.resolve()
        model = given_or_made(asked.model, asked.size, gsm8k, folder, asked.limit_s)
        for case in cases:
            work = Work(case.tokens, case.completions // GROUP)
            result = measure(variant(case), model, gsm8k, folder, work=work, limit_s=asked.limit_s)
            found["growth"][case.name] = {
                "completions": case.completions,
                "tokens": case.tokens,
                "micro_batch": variant(case).micro_batch,
                **result,
            }
            write_json(asked.out, found)
            print(line(case.name, result), flush=True)
    return int(any(result["exit_code"] for result in found["growth"].values()))


if __name__ == "__main__":
    run_command(main)
