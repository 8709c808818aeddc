"""The `graph` engine on a GPU: a merged copy of the weights, a fixed cache, one CUDA graph a token.

What it saves over transformers' `generate`: some thousand launches from Python for every token,
which take tens of times as long as the work they start; a LoRA adapter's own products; and reading
each prompt once for every sample.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xmlgrpo_rollout.engine import Completion, Sampling, in_parts, left_padded
from xmlgrpo_rollout.gpu import MEMORY_SHARE, PREFILL_TOKENS, ROWS, SLOTS_MULTIPLE, Ways
from xmlgrpo_rollout.gpu.captured_step import Decoder
from xmlgrpo_rollout.gpu.prefill import read_prompts
from xmlgrpo_rollout.stop_tokens import cut_after_stop
from xmlgrpo_rollout.weights import read_rope, read_weights, refresh_weights, text_device

ROWS_MULTIPLE = 8  # rounded up, as the slots are
DECODERS_KEPT = 2  # training's and the held-out questions'
AS_MEASURED = Ways()
LOOK_EVERY = 16  # steps between two looks at whether every row is done


class GraphEngine:
    """Completes prompts with a text model, bare or with a LoRA adapter.

    The model's own modules are not called, so its training mode and dropout do not matter.  It
    holds a copy of the adapted and the joined projections in the type that the model computes in
    (1.4 GB for Gemma 3 1B in bfloat16), also of a 4-bit base, or of all of them in 8 bits; the
    embedding is the model's own.

    Axes: P prompts, R rows (P times the samples), T tokens, V vocabulary.

    Args:
        model: one that `choice.why_not_read` has nothing against.
        int8: hold projections in 8 bits.
        ways: how a step is computed; each gives the same completions but for rounding, those of
            another `draw` are other draws from the same distribution.

    Attributes:
        weights: of the model, as they were when they were last read.
        finished: how many completions of the call that is running are finished; else 0.
    """

    def __init__(
        self,
        model: nn.Module,
        stop_ids: Sequence[int],
        pad_id: int,
        *,
        int8: bool = False,
        ways: Ways = AS_MEASURED,
    ) -> None:
        self.model, self.ways = model, ways
        self.stop_ids = tuple(stop_ids)
        self.pad_id = pad_id
        self.finished = 0
        with torch.no_grad():
            self.weights = read_weights(model, int8=int8)
        self._decoders: dict[Sampling, _Kept] = {}  # the one used last comes last

    @property
    def vocabulary(self) -> int:
        """How many tokens there are to choose from."""
        return self.weights.head.shape[0]

    def refresh(self) -> None:
        """Read the model's weights again, as they are now."""
        with torch.no_grad():
            refresh_weights(self.weights, self.model)

    def __call__(
        self, prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling
    ) -> list[Completion]:
        """Complete every prompt `samples` times; see `xmlgrpo_rollout.engine.Engine`."""
        if not prompts:
            return []
        # the one number drawn from torch's generator: all else follows from it; greedy needs none
        seed = 0 if sampling.is_greedy else int(torch.randint(2**62, ()))
        longest = max(map(len, prompts))
        slots = _rounded(longest + sampling.max_new_tokens, SLOTS_MULTIPLE)
        with torch.no_grad(), self._on_its_gpu():
            decoder = self._decoder(len(prompts) * samples, samples, slots, sampling)

            def complete(part: list[Sequence[int]], first_row: int) -> list[Completion]:
                grown = self._complete(decoder, part, samples, seed, first_row)
                self.finished = first_row + len(grown)
                return grown

            completions = in_parts(prompts, samples, decoder.rows // samples, complete)
        self.finished = 0
        return completions

    def _on_its_gpu(self) -> AbstractContextManager[object]:
        """Streams, graphs and Triton's kernels go to the current GPU, wherever the model is."""
        device = text_device(self.model)
        return torch.cuda.device(device) if device.type == "cuda" else nullcontext()

    def _decoder(self, wanted: int, samples: int, slots: int, sampling: Sampling) -> Decoder:
        """One that fits: kept from before, or made now."""
        kept = self._decoders.pop(sampling, None)
        if kept is None or not kept.fits(wanted, samples, slots):
            while len(self._decoders) >= DECODERS_KEPT:
                del self._decoders[next(iter(self._decoders))]
            kept = None  # its memory is free before the new one's is counted
            kept = self._made(wanted, samples, slots, sampling)
        self._decoders[sampling] = kept
        return kept.decoder

    def _made(self, wanted: int, samples: int, slots: int, sampling: Sampling) -> "_Kept":
        most = max(samples, self._most_rows(slots) // samples * samples)
        decoder = Decoder(
            self.weights,
            read_rope(self.model, slots),
            _rounded(min(wanted, most), ROWS_MULTIPLE),
            slots,
            sampling,
            stop_ids=self.stop_ids,
            pad_id=self.pad_id,
            ways=self.ways,
        )
        return _Kept(decoder, most)

    def _most_rows(self, slots: int) -> int:
        """How many rows of `slots` slots the memory has room for."""
        device = text_device(self.model)
        if device.type != "cuda":
            return ROWS
        free, _ = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return min(ROWS, int(MEMORY_SHARE * free / self.weights.row_bytes(slots)))

    def _complete(
        self,
        decoder: Decoder,
        prompts: Sequence[Sequence[int]],
        samples: int,
        seed: int,
        first_row: int,
    ) -> list[Completion]:
        """Read each prompt once, then grow all completions side by side."""
        length, live = max(map(len, prompts)), len(prompts) * samples
        logits_P_V = self._read(decoder, prompts, samples, length)
        logits_R_V = logits_P_V.repeat_interleave(samples, dim=0)
        decoder.begin(logits_R_V, length, live, seed=seed, first_row=first_row)
        limit = decoder.sampling.max_new_tokens
        for drawn in range(1, limit):
            if drawn % LOOK_EVERY == 0:
                growing = decoder.growing()
                self.finished = first_row + live - growing
                if growing == 0:
                    break
                decoder.let_leave(growing)
            decoder.step()
        written = decoder.batch.growing.written[:live].tolist()
        logprobs = decoder.batch.growing.logprobs[:live].tolist()
        completions = []
        for tokens, probabilities in zip(written, logprobs, strict=True):
            kept = cut_after_stop(tokens, self.stop_ids)
            completions.append(Completion(kept, probabilities[: len(kept)]))
        return completions

    def _read(
        self, decoder: Decoder, prompts: Sequence[Sequence[int]], samples: int, length: int
    ) -> Tensor:
        """Fill the cache with every prompt, `samples` times; the logits after each, (P, V)."""
        weights, batch = self.weights, decoder.batch
        device = batch.padding.device
        rope = read_rope(self.model, length)
        padded, padding = left_padded(prompts, self.pad_id)
        tokens_P_T = torch.tensor(padded, device=device)
        padding_P = torch.tensor(padding, dtype=torch.int32, device=device)
        batch.padding.zero_()  # a row that is not in use still looks up its place
        live = len(prompts) * samples
        batch.padding[:live] = padding_P.repeat_interleave(samples)
        numbers = torch.arange(batch.rows, dtype=torch.int32, device=device)
        batch.sources.copy_(numbers)
        batch.sources[:live] = numbers[:live] // samples * samples
        logits = []
        together = max(1, PREFILL_TOKENS // length)
        for start in range(0, len(prompts), together):
            part = slice(start, start + together)
            rows = slice(start * samples, min(start + together, len(prompts)) * samples)
            logits.append(
                read_prompts(
                    weights,
                    rope,
                    tokens_P_T[part],
                    padding_P[part],
                    keys=[keys[rows] for keys in batch.keys],
                    values=[values[rows] for values in batch.values],
                )
            )
        return torch.cat(logits)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A decoder, and how many rows the memory had room for when it was made."""

    decoder: Decoder
    most: int

    def fits(self, wanted: int, samples: int, slots: int) -> bool:
        rows = self.decoder.rows
        return samples <= rows and min(wanted, self.most) <= rows and slots <= self.decoder.slots


def _rounded(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
