"""What a model can do: greedy accuracy, and of sampled replies accuracy, maj@k, pass@k, entropy.

    python -m recipes.gsm8k.answers.accuracy MODEL --out FILE.json --greedy a.jsonl b.jsonl

The first of the files is asked for samples too.  For choosing between models on rows that nothing
was trained on; the test split is `xmlgrpo-eval`'s.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from recipes.gsm8k.answers.answering import Answering, Reply, examples_of, open_model
from recipes.gsm8k.data.rows import load
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.interval import Z_95, Share
from xmlgrpo_rewards.numbers import parse_number
from xmlgrpo_rollout.engine import Sampling
from xmlgrpo_run.files import write_json

REPLIES_KEPT = 6


def main() -> int:
    """Ask, and write the file."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--greedy", type=Path, nargs="+", required=True, help="files of rows")
    options.add_argument("--sampled-rows", type=int, default=400, help="the first so many rows")
    options.add_argument("--samples", type=int, default=16)
    options.add_argument("--tokens", type=int, default=256, help="of a reply at most")
    options.add_argument("--device", default="cuda")
    asked = options.parse_args()
    answering = open_model(asked.model, None, asked.device)
    told: dict[str, Any] = {}
    for path in asked.greedy:
        told[path.stem] = greedy(answering, load(path), asked.tokens)
        print(path.stem, told[path.stem]["accuracy"]["shown"], flush=True)
    some = load(asked.greedy[0])[: asked.sampled_rows]
    told["sampled"] = sampled(answering, some, asked.samples, asked.tokens)
    write_json(asked.out, told)
    return 0


def greedy(answering: Answering, rows: Sequence[dict[str, Any]], tokens: int) -> dict[str, Any]:
    """Accuracy of greedy replies, and which were right, for pairs."""
    began = time.monotonic()
    groups = answering.replies(examples_of(rows), 1, Sampling(tokens, temperature=0.0))
    replies = [reply for [reply] in groups]
    right = [reply.grade.strict_correct for reply in replies]
    return {
        "accuracy": described(Share(sum(right), len(right))),
        "lenient": described(Share(sum(r.grade.lenient_correct for r in replies), len(right))),
        **about(replies),
        "right": "".join("1" if is_right else "0" for is_right in right),
        "replies": [reply.text for reply in replies[:REPLIES_KEPT]],
        "seconds": round(time.monotonic() - began, 1),
    }


def sampled(
    answering: Answering, rows: Sequence[dict[str, Any]], samples: int, tokens: int
) -> dict[str, Any]:
    """What `samples` replies to each row at temperature 1 say."""
    began = time.monotonic()
    groups = answering.replies(examples_of(rows), samples, Sampling(tokens, temperature=1.0))
    replies = [reply for group in groups for reply in group]
    shares = [fmean(reply.grade.strict_correct for reply in group) for group in groups]
    majority = sum(majority_is_right(group) for group in groups)
    counts = Counter(reply.grade.answer for reply in replies)
    half = Z_95 * stdev(shares) / sqrt(len(shares)) if len(shares) > 1 else 1.0
    logprobs = [reply.logprob for reply in replies if reply.logprob is not None]
    return {
        "rows": len(rows),
        "samples": samples,
        "accuracy": {
            "value": fmean(shares),
            "low": fmean(shares) - half,
            "high": fmean(shares) + half,
        },
        "majority": described(Share(majority, len(groups))),
        "any": described(Share(sum(share > 0 for share in shares), len(groups))),
        "mixed_groups": fmean(0 < share < 1 for share in shares),
        "entropy": -sum(logprobs) / sum(r.tokens for r in replies) if logprobs else None,
        "commonest_answer": {"answer": counts.most_common(1)[0][0]}
        | {"share": counts.most_common(1)[0][1] / len(replies)},
        **about(replies),
        "replies": [reply.text for reply in replies[:REPLIES_KEPT]],
        "seconds": round(time.monotonic() - began, 1),
    }


def about(replies: Sequence[Reply]) -> dict[str, float | None]:
    """Shares and the mean length of any replies."""
    right = [reply for reply in replies if reply.grade.strict_correct]
    return {
        "strict_format": fmean(reply.grade.strict_format for reply in replies),
        "truncated": fmean(not reply.ended for reply in replies),
        "mean_tokens": fmean(reply.tokens for reply in replies),
        "shown_among_right": fmean(reply.shown for reply in right) if right else None,
    }


def majority_is_right(group: Sequence[Reply]) -> bool:
    """Whether the answer given most often is right; of several, the one given first."""
    numbers = [parse_number(reply.grade.answer or "") for reply in group]
    counts = Counter(number for number in numbers if number is not None)
    if not counts:
        return False
    commonest = counts.most_common(1)[0][0]
    return any(
        number == commonest and reply.grade.strict_correct
        for number, reply in zip(numbers, group, strict=True)
    )


def described(share: Share) -> dict[str, Any]:
    """A share with its 95 % interval, for a JSON file."""
    return {
        "hits": share.hits,
        "total": share.total,
        "value": share.value,
        "low": share.low,
        "high": share.high,
        "shown": str(share),
    }


if __name__ == "__main__":
    run_command(main)
