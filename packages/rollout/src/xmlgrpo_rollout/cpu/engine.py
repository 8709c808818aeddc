"""The `graph` engine in its CPU form: a lean decoding loop over a static cache.

What it saves over transformers' `generate` on a small model: a LoRA adapter is merged once a
rollout and not applied at every token; each distinct prompt is read once, whatever the number of
samples; rows that are finished are dropped; and a step is a few dozen calls.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from xmlgrpo_rollout.cpu.cache import KeyValueCache, prefill
from xmlgrpo_rollout.engine import (
    Completion,
    Sampling,
    in_parts,
    left_padded,
    logprobs_of,
    next_tokens,
)
from xmlgrpo_rollout.forward import last_logits
from xmlgrpo_rollout.stop_tokens import cut_after_stop
from xmlgrpo_rollout.weights import DecoderWeights, Rope, in_full, read_rope, read_weights

ROWS = 512  # completions that grow side by side at most ...
CACHE_BYTES = 2**30  # ... and fewer where their keys and values would take more than this
LOOK_EVERY = 4  # steps between two looks at how many rows are finished
DROP_BELOW = 0.75  # rows are dropped once so few of them are still growing: it costs a copy
SMALL_HIDDEN_SIZE = 512  # up to here torch's threads cost more by waiting than they save


class StaticEngine:
    """Completes prompts with a text model, bare or with a LoRA adapter.

    The model's own modules are not called, so its training mode and dropout do not matter.

    Axes: P prompts, R rows (P times the samples), T tokens, V vocabulary.

    Args:
        model: one that `choice.why_not_read` has nothing against.
        int8: compute with what projections in 8 bits stand for.  Such an engine is not the policy,
            so completions come with their log-probabilities.

    Attributes:
        weights: of the model, as they were when they were last read.
        finished: how many completions of the call that is running are finished; else 0.
    """

    def __init__(
        self, model: nn.Module, stop_ids: Sequence[int], pad_id: int, *, int8: bool = False
    ) -> None:
        self.model = model
        self.stop_ids = tuple(stop_ids)
        self.pad_id = pad_id
        self.finished = 0
        self._int8 = int8
        self.refresh()

    def refresh(self) -> None:
        """Read the model's weights again, as they are now."""
        with torch.no_grad():
            self.weights = in_full(read_weights(self.model, int8=self._int8))

    def __call__(
        self, prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling
    ) -> list[Completion]:
        """Complete every prompt `samples` times; see `xmlgrpo_rollout.engine.Engine`."""
        slots = max(map(len, prompts), default=0) + sampling.max_new_tokens
        rows = min(ROWS, CACHE_BYTES // (slots * self.weights.bytes_per_slot))
        self.finished = 0

        def complete(part: list[Sequence[int]], _first_row: int) -> list[Completion]:
            return self._complete(part, samples, sampling)

        with torch.no_grad(), fitting_threads(self.weights):
            completions = in_parts(prompts, samples, max(1, rows // samples), complete)
        self.finished = 0
        return completions

    def _complete(
        self, prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling
    ) -> list[Completion]:
        """Read each prompt once, then grow all completions side by side."""
        slots = max(map(len, prompts)) + sampling.max_new_tokens
        rope = read_rope(self.model, slots)
        cache, logits_P_V, padding_P = self._read(prompts, rope)
        repeated_R = torch.arange(len(prompts), device=padding_P.device).repeat_interleave(samples)
        written_R_T, logprobs_R_T = self._grow(
            cache.grown(repeated_R, slots),
            rope,
            logits_P_V[repeated_R],
            padding_P[repeated_R],
            sampling,
        )
        written = [cut_after_stop(row, self.stop_ids) for row in written_R_T.tolist()]
        if logprobs_R_T is None:
            return list(map(Completion, written))
        return [
            Completion(tokens, known[: len(tokens)])
            for tokens, known in zip(written, logprobs_R_T.tolist(), strict=True)
        ]

    def _read(
        self, prompts: Sequence[Sequence[int]], rope: Rope
    ) -> tuple[KeyValueCache, Tensor, Tensor]:
        """The filled cache, the logits after each prompt, and the padding before it."""
        device = self.weights.embedding.device
        padded, padding = left_padded(prompts, self.pad_id)
        length, padding_P = len(padded[0]), torch.tensor(padding, device=device)
        places_P_T = (torch.arange(length, device=device) - padding_P[:, None]).clamp(min=0)
        cache, attend = prefill(padding_P, length, self.weights.recipe)
        tokens_P_T = torch.tensor(padded, device=device)
        logits_P_V = last_logits(self.weights, rope, tokens_P_T, places_P_T, attend)
        return cache, logits_P_V, padding_P

    def _grow(
        self,
        cache: KeyValueCache,
        rope: Rope,
        logits_R_V: Tensor,
        padding_R: Tensor,
        sampling: Sampling,
    ) -> tuple[Tensor, Tensor | None]:
        """Draw tokens until every row has stopped or is full; what follows a stop is noise.

        Their log-probabilities where they are wanted.
        """
        rows, limit, slots = len(padding_R), sampling.max_new_tokens, cache.padding_bias.shape[1]
        device = padding_R.device
        stops = torch.tensor(self.stop_ids, device=device)
        written_R_T = torch.full((rows, limit), self.pad_id, device=device)
        logprobs_R_T = torch.zeros(rows, limit, device=device) if self._int8 else None
        growing = torch.arange(rows, device=device)  # the rows of `written_R_T` still computed
        is_done = torch.zeros(rows, dtype=torch.bool, device=device)
        earlier = self.finished
        for step in range(limit):
            tokens_R = next_tokens(logits_R_V, sampling)
            written_R_T[growing, step] = tokens_R
            if logprobs_R_T is not None:
                logprobs_R_T[growing, step] = logprobs_of(tokens_R, logits_R_V, sampling)
            is_done |= torch.isin(tokens_R, stops)
            if step + 1 == limit:
                break
            if step % LOOK_EVERY == LOOK_EVERY - 1:
                kept = (~is_done).nonzero()[:, 0]
                self.finished = earlier + rows - len(kept)
                if len(kept) == 0:
                    break
                if len(kept) < DROP_BELOW * len(growing):
                    cache = cache.grown(kept, slots)
                    growing, is_done = growing[kept], is_done[kept]
                    tokens_R, padding_R = tokens_R[kept], padding_R[kept]
            places_R_1 = (cache.used - padding_R)[:, None]
            logits_R_V = last_logits(
                self.weights, rope, tokens_R[:, None], places_R_1, cache.attend
            )
            cache.used += 1
        self.finished = earlier + rows
        return written_R_T, logprobs_R_T


def stream(
    weights: DecoderWeights,
    rope: Rope,
    prompt: Sequence[int],
    stop_ids: Sequence[int],
    sampling: Sampling,
) -> Iterator[int]:
    """One completion token by token, as they are drawn; the token that ends it is the last.

    Args:
        rope: of the model, for as many places as prompt and completion may have.
        sampling: how tokens are chosen, from torch's global generator.
    """
    with torch.no_grad(), fitting_threads(weights):
        length = len(prompt)
        padding = torch.zeros(1, dtype=torch.long)
        cache, attend = prefill(padding, length, weights.recipe)
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


@contextmanager
def fitting_threads(weights: DecoderWeights) -> Iterator[None]:
    """One thread while a small model decodes: a step is many small calls, each with its wait."""
    before = torch.get_num_threads()
    small = weights.embedding.shape[1] <= SMALL_HIDDEN_SIZE
    torch.set_num_threads(1 if small else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
