"""How long an evaluation takes with each engine, on GSM8K's test items at a Gemma 3 shape.

    python -m bench.answering.eval_speed --gsm8k FOLDER --out eval-speed.json
    python -m bench.answering.eval_speed --gsm8k FOLDER --out speed.json --dtype float32 --items 64

Every engine answers in an `xmlgrpo-eval run` of its own, one after another, with one model of
random weights, whose replies nearly all have their full length.  The seconds are those of
answering, from the first request to the last reply, without loading.  On a GPU each engine answers
one item first, in a process of its own: that one compiles the kernels, once for a machine, and
`first_reply_s` is what it took.

In float32 all replies must be identical.  In 16 bits, of random weights, rounding soon decides
which of 262,144 tokens is the best, so there the share says nothing about answers.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench.shared.child_process import run_child
from bench.shared.random_model import SIZES, given_or_made
from xmlgrpo_evaluator.results.result import read_result
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_json

ENGINES = ("graph", "generate")


def measure(
    engine: str, model: Path, asked: argparse.Namespace, folder: Path, items: int
) -> tuple[dict[str, Any], list[str]]:
    """Evaluate with one engine; what it took, and its replies."""
    out = folder / f"{engine}-{items}.json"
    command = ["-m", "xmlgrpo_evaluator.cli", "run", "--model", str(model), "--out", str(out)]
    command += ["--engine", engine, "--data", str(asked.gsm8k.resolve()), "--quiet"]
    command += ["--limit", str(items), "--max-new-tokens", str(asked.tokens)]
    command += ["--model_args", f"dtype={asked.dtype}", "--check-batch", "0"]
    command += ["--batch-size", str(asked.batch_size)] if asked.batch_size else []
    ended = run_child(command, cwd=folder, environment={}, limit_s=asked.limit_s)
    found: dict[str, Any] = {
        "exit_code": ended["exit_code"],
        "ending": ended["ending"],
        "whole_run_s": ended["seconds"],
    }
    if ended["exit_code"] != 0:
        return found | {"last_lines": ended["last_lines"][-15:]}, []
    result = read_result(out)
    [task] = result["tasks"].values()
    return found | {
        "engines": result["engines"],
        "at_once": result["batch_size"],
        "items": len(task["items"]),
        "dtype": result["model"]["model_dtype"],
        **result["speed"],
        "versions": result["versions"],
    }, [item["replies"][0] for item in task["items"]]


def identical(replies: Sequence[list[str]]) -> int | None:
    """How many items have the same reply from every engine; None without two engines to compare."""
    if len(replies) < 2 or not all(replies):
        return None
    return sum(len(set(of_item)) == 1 for of_item in zip(*replies, strict=True))


def line(engine: str, result: dict[str, Any]) -> str:
    """A result for people; the last words of one that failed."""
    if result["exit_code"] != 0:
        return "\n    ".join([f"{engine:10} FAILED ({result['ending']})", *result["last_lines"]])
    return (
        f"{engine:10} {result['items']} replies, {result['reply_tokens']} tokens in "
        f"{result['seconds']:.1f} s: {result['tokens_per_s']:.0f} tokens/s, {result['at_once']} at "
        f"once, peak {result['peak_mib']:.0f} MiB"
    )


def device() -> str:
    """What the models run on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--gsm8k", type=Path, required=True, help="with train.jsonl, test.jsonl")
    made.add_argument("--out", type=Path, required=True, help="the JSON file of the results")
    made.add_argument("--size", default="1b", choices=tuple(SIZES), help="default: 1b")
    made.add_argument("--items", type=int, default=256, help="test items, the first ones")
    made.add_argument("--tokens", type=int, default=256, help="the limit of a reply")
    made.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    made.add_argument("--batch-size", type=int, help="replies at once; default: each engine's own")
    made.add_argument("--only", nargs="+", choices=ENGINES, metavar="NAME", help="graph, generate")
    made.add_argument("--limit-s", type=float, default=1200, help="longest evaluation")
    return made


def main() -> int:
    """Measure each engine, write after each, print a line for each."""
    asked = parser().parse_args()
    if not (asked.gsm8k / "test.jsonl").is_file():
        raise UserError(f"expected test.jsonl in the folder of GSM8K, found none in {asked.gsm8k}")
    engines = [name for name in ENGINES if asked.only is None or name in asked.only]
    found: dict[str, Any] = {
        "size": asked.size,
        "items": asked.items,
        "tokens": asked.tokens,
        "engines": {},
    }
    replies = []
    with tempfile.TemporaryDirectory(prefix="eval-speed-") as scratch:
        folder = Path(scratch)
        model = given_or_made(None, asked.size, asked.gsm8k, folder, asked.limit_s)
        for engine in engines:
            first_s = None
            if torch.cuda.is_available():
                first_s = measure(engine, model, asked, folder, items=1)[0].get("seconds")
            result, written = measure(engine, model, asked, folder, items=asked.items)
            found["engines"][engine] = result | {"first_reply_s": first_s}
            replies.append(written)
            write_json(asked.out, found)
            print(line(engine, found["engines"][engine]), flush=True)
    found["device"] = device()  # only now: until here this process leaves the GPU alone
    found["identical_replies"] = identical(replies)
    if found["identical_replies"] is not None:
        seconds = [found["engines"][name]["seconds"] for name in ("generate", "graph")]
        found["generate_by_graph"] = round(seconds[0] / seconds[1], 2)
        print(
            f"generate / graph = {found['generate_by_graph']}; {found['identical_replies']} of "
            f"{len(replies[0])} replies identical"
        )
    write_json(asked.out, found)
    return int(any(result["exit_code"] for result in found["engines"].values()))


if __name__ == "__main__":
    run_command(main)
