"""One completion, token by token, with the CPU engine's cache and forward pass."""

from collections.abc import Iterator, Sequence

import torch

from xmlgrpo_rollout.cpu.cache import prefill
from xmlgrpo_rollout.cpu.engine import fitting_threads
from xmlgrpo_rollout.cpu.forward import last_logits
from xmlgrpo_rollout.sampling import Sampling, next_tokens
from xmlgrpo_rollout.weights import Gemma3Weights, Rope


def stream(
    weights: Gemma3Weights,
    rope: Rope,
    prompt: Sequence[int],
    stop_ids: Sequence[int],
    sampling: Sampling,
) -> Iterator[int]:
    """The tokens of a completion, as they are drawn; the token that ends it is the last.

    Args:
        weights: of the model.
        rope: of the model, for as many places as prompt and completion may have.
        prompt: token ids.
        stop_ids: the tokens that end a completion.
        sampling: how tokens are chosen, from torch's global generator.
    """
    with torch.no_grad(), fitting_threads(weights):
        length = len(prompt)
        padding = torch.zeros(1, dtype=torch.long)
        cache, attend = prefill(padding, length, weights.window)
        places = torch.arange(length)[None]
        logits = last_logits(weights, rope, torch.tensor([list(prompt)]), places, attend)
        cache = cache.grown(padding, length + sampling.max_new_tokens)
        for step in range(1, sampling.max_new_tokens + 1):
            [token] = next_tokens(logits, sampling).tolist()
            yield token
            if token in stop_ids or step == sampling.max_new_tokens:
                return
            last, place = torch.tensor([[token]]), torch.tensor([[cache.used]])
            logits = last_logits(weights, rope, last, place, cache.attend)
            cache.used += 1
