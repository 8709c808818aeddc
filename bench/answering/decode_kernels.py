"""How long each way to compute a decoding step takes, at the Gemma 3 1B shape; is the same drawn?

    python -m bench.answering.decode_kernels --out kernels.json
    python -m bench.answering.decode_kernels --out leave.json --rows 256 --new-tokens 512 \
        --mean-reply 130 --only plain leave all-head all-head-leave plain-again

Random weights with a LoRA adapter; 8 prompts of 140 random tokens, eight completions of 256 each.
A rollout is timed as a whole, its prompts among it.  Greedy tokens are compared with those of the
plain way, drawn ones with those of the first way that numbers its draws alike.  The plain way
stands at both ends, to see what a machine does by itself.  A way that fails leaves its error.

Nobody stops, unless a mean length is asked for: one token in so many then ends a completion.  With
random weights each is about as likely, so that lengths are spread geometrically; real replies (105
to 160 tokens on average of at most 256 to 512) are spread less, and rows leave later.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.shared.random_model import SIZES, adapted, random_weights
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.engine import Completion, Sampling
from xmlgrpo_rollout.gpu import HEAD, NOISE, TILES, Ways
from xmlgrpo_run.files import write_json

if TYPE_CHECKING:
    from xmlgrpo_rollout.gpu.engine import GraphEngine

SAMPLES, PROMPT_TOKENS = 8, 140
FIRST, PAD = 300, 0  # the tokens before are special
REPEATS = 5
WIDE = {"columns": 256, "warps": 8, "stages": 3}  # of the head's product; fits once an SM
WAYS: dict[str, tuple[Ways, dict[str, int]]] = {
    "plain": (Ways(), {}),
    "tiles": (Ways(draw=TILES), {}),
    "head": (Ways(draw=HEAD), {}),
    "head-wide": (Ways(draw=HEAD), WIDE),
    "one-attention": (Ways(one_attention=True), {}),
    "early": (Ways(early=True), {}),
    "one-attention-early": (Ways(one_attention=True, early=True), {}),
    "all-tiles": (Ways(draw=TILES, one_attention=True, early=True), {}),
    "all-head": (Ways(draw=HEAD, one_attention=True, early=True), {}),
    "shared-prompt": (Ways(shared_prompt=True), {}),
    "all-head-shared": (
        Ways(draw=HEAD, one_attention=True, early=True, shared_prompt=True),
        {},
    ),
    "leave": (Ways(leave=True), {}),
    "all-head-leave": (Ways(draw=HEAD, one_attention=True, early=True, leave=True), {}),
    "plain-again": (Ways(), {}),
}


class Rollouts:
    """The same rollout by one way after another, each compared with those before."""

    def __init__(self, model: Any, rows: int, new_tokens: int, mean_reply: int | None) -> None:
        self.model, self.new_tokens = model, new_tokens
        self.samples = min(rows, SAMPLES)
        vocabulary = model.get_input_embeddings().weight.shape[0]
        torch.manual_seed(0)
        shape = (rows // self.samples, PROMPT_TOKENS)
        self.prompts = torch.randint(FIRST, vocabulary, shape).tolist()
        stopping = vocabulary // mean_reply if mean_reply else 0
        self.stops = range(FIRST, FIRST + stopping) if stopping else (10**6,)
        self.first: dict[str, list[Completion]] = {}  # by what makes them comparable

    def measured(self, ways: Ways, tiles: dict[str, int]) -> dict[str, Any]:
        """Times and comparisons of one way."""
        from xmlgrpo_rollout.gpu.engine import GraphEngine  # noqa: PLC0415 - Triton is not everywhere
        from xmlgrpo_rollout.gpu.kernels import products  # noqa: PLC0415 - the same

        usual = products.TILES["head"]
        products.TILES["head"] = replace(usual, **tiles)
        try:
            return self._of(GraphEngine(self.model, self.stops, PAD, ways=ways))
        finally:
            products.TILES["head"] = usual

    def _of(self, engine: "GraphEngine") -> dict[str, Any]:
        began = time.perf_counter()
        # in the first rows do not leave yet
        greedy = [self._timed(engine, 0.0)[0] for _ in range(3)]
        drawn = [self._timed(engine, 1.0) for _ in range(1 + REPEATS)]
        taken = [seconds for _, seconds in drawn[1:]]
        completions = drawn[-1][0]
        lengths = [len(completion.tokens) for completion in completions]
        numbering = NOISE if engine.ways.draw == NOISE else TILES
        return {
            "rollout_s": round(statistics.median(taken), 4),
            "us_a_token": round(1e6 * statistics.median(taken) / max(lengths), 1),
            "least_us": round(1e6 * min(taken) / max(lengths), 1),
            "mean_length": statistics.fmean(lengths),
            "greedy_equal": self._compared("greedy", greedy[-1]),
            "drawn_equal": self._compared(numbering, completions),
            "repeats_itself": greedy[1] == greedy[2]
            and all(again == completions for again, _ in drawn[1:]),
            "mean_logprob": statistics.fmean(p for c in completions for p in _logprobs(c)),
            "seconds_in_all": round(time.perf_counter() - began, 1),
        }

    def _timed(self, engine: "GraphEngine", temperature: float) -> tuple[list[Completion], float]:
        torch.manual_seed(1)
        began = time.perf_counter()
        completions = engine(self.prompts, self.samples, Sampling(self.new_tokens, temperature))
        return completions, time.perf_counter() - began  # they are on the host: nothing runs on

    def _compared(self, kind: str, completions: list[Completion]) -> dict[str, float]:
        """With the first of a kind: the share of equal tokens, and of completions equal all over.

        `logprob_off` is the largest difference over tokens before a completion's first other one.
        """
        reference = self.first.setdefault(kind, completions)
        tokens, logprobs, whole = 0, [0.0], 0
        for ours, theirs in zip(completions, reference, strict=True):
            same = _agreeing(ours.tokens, theirs.tokens)
            tokens += same
            whole += ours.tokens == theirs.tokens
            pairs = zip(_logprobs(ours)[:same], _logprobs(theirs)[:same], strict=True)
            logprobs += [abs(one - other) for one, other in pairs]
        length = sum(len(completion.tokens) for completion in reference)
        return {
            "tokens_before_first_other": tokens / length,
            "whole_completions": whole / len(reference),
            "logprob_off": max(logprobs),
        }


def _logprobs(completion: Completion) -> list[float]:
    return completion.logprobs or []  # other engines have none


def _agreeing(ours: Sequence[int], theirs: Sequence[int]) -> int:
    shared = list(zip(ours, theirs, strict=False))  # one may have ended before the other
    return next((place for place, (one, other) in enumerate(shared) if one != other), len(shared))


def main() -> None:
    """Measure every way, write after each, print a line for each."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--size", choices=tuple(SIZES), default="1b")
    made.add_argument("--rows", type=int, default=64)
    made.add_argument("--new-tokens", type=int, default=256)
    made.add_argument("--mean-reply", type=int, help="tokens; left out, nobody stops")
    made.add_argument("--only", nargs="+", choices=tuple(WAYS), default=tuple(WAYS))
    made.add_argument("--limit-s", type=float, default=80, help="no other way is begun after it")
    asked = made.parse_args()
    is_gpu, began = torch.cuda.is_available(), time.perf_counter()
    if not is_gpu and asked.size != "tiny":
        raise UserError("decode_kernels.py needs a CUDA GPU for this size, and torch sees none")
    model = adapted(random_weights(SIZES[asked.size], seed=0))
    rollouts = Rollouts(model, asked.rows, asked.new_tokens, asked.mean_reply)
    found: dict[str, Any] = {"device": torch.cuda.get_device_name() if is_gpu else "cpu"}
    for name in asked.only:
        if time.perf_counter() - began > asked.limit_s:
            found[name] = {"error": f"not begun: {asked.limit_s:.0f} s were over"}
        else:
            try:
                found[name] = rollouts.measured(*WAYS[name])
            except Exception as error:  # noqa: BLE001 - the other ways are to be measured
                found[name] = {"error": f"{type(error).__name__}: {error}"[-2000:]}
        write_json(asked.out, found)
        print(name, found[name], flush=True)


if __name__ == "__main__":
    run_command(main)
