"""llama.cpp's decoding context: the KV cache of every sequence, and one step over a batch."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from xmlgrpo_gguf.model import GgufModel
from xmlgrpo_rewards.errors import UserError

SHARED = 0
"""The sequence that holds what all others begin with; theirs are 1, 2, ... up to `slots`."""
BATCH_TOKENS = 512
_OUTPUTS = 64  # rows of logits a step where many are wanted: 64 MiB with Gemma's vocabulary
_CELLS = 256  # llama.cpp gives a sequence a multiple of this


class Token(NamedTuple):
    """A token at its place in a sequence."""

    id: int
    position: int
    sequence: int


def run_of(ids: Sequence[int], sequence: int, start: int = 0) -> list[Token]:
    """Tokens that follow one another in a sequence, the first of them at position `start`."""
    return [Token(token, position, sequence) for position, token in enumerate(ids, start)]


class DecodingContext:
    """A KV cache over a loaded model, and the steps that fill it; a context manager.

    Every sequence has a cache of its own (`kv_unified` off).  In one cache for all, a token looks
    past the others' cells too, which at 500 new tokens and 16 sequences took 1.6 times the CPU
    time.  The price is an order to keep: llama.cpp decodes together only sequences whose numbers
    follow each other upwards in the batch (`split_equal` in llama-batch.cpp), and the rest one by
    one.  So callers add tokens by ascending sequence.

    Args:
        slots: how many sequences there are beside the shared one.
        context: tokens that one sequence may hold, the shared ones included.
        prompt_threads: the same for steps of many tokens; `threads` when None.
        fused: let llama.cpp compute attention in one pass ("flash attention"), which rounds more.
        keep_window: keep every token of the sliding-window layers.  Needed when the shared prefix
            is longer than the window, whose cells could otherwise not be used again.

    Raises:
        UserError: there is not enough memory.
    """

    def __init__(
        self,
        model: GgufModel,
        *,
        slots: int,
        context: int,
        threads: int,
        prompt_threads: int | None = None,
        fused: bool = True,
        keep_window: bool = False,
    ) -> None:
        self.model, self.llama, self.slots = model, model.llama, slots
        # llama.cpp wants room for one row of every sequence, the shared one included
        self.outputs = max(slots + 1, _OUTPUTS)
        settings = self.llama.llama_context_default_params()
        settings.n_seq_max = slots + 1
        settings.kv_unified = False
        settings.n_ctx = _CELLS * -(-context // _CELLS) * settings.n_seq_max
        settings.n_batch = settings.n_ubatch = max(BATCH_TOKENS, self.outputs)
        settings.n_outputs_max = self.outputs
        settings.n_threads, settings.n_threads_batch = threads, prompt_threads or threads
        settings.swa_full = keep_window
        if not fused:
            settings.flash_attn_type = self.llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.handle = self.llama.llama_init_from_model(model.handle, settings)
        if not self.handle:
            raise UserError(
                f"llama.cpp cannot make a context of {slots} x {context} tokens for {model.path}: "
                "too little memory? Fewer replies at once (--batch-size) or shorter ones need less"
            )
        self._memory = self.llama.llama_get_memory(self.handle)
        self._room = settings.n_batch
        self._batch = self.llama.llama_batch_init(self._room, 0, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_reason: object) -> None:
        self.llama.llama_batch_free(self._batch)
        self.llama.llama_free(self.handle)

    def clear(self) -> None:
        """Forget every sequence."""
        self.llama.llama_memory_clear(self._memory, True)  # noqa: FBT003  # a C function

    def begin(self, slot: int) -> None:
        """Let a sequence begin with what the shared one holds."""
        self.llama.llama_memory_seq_cp(self._memory, SHARED, slot, -1, -1)

    def forget(self, slot: int) -> None:
        """Give a sequence's cells back."""
        self.llama.llama_memory_seq_rm(self._memory, slot, -1, -1)

    def read(self, tokens: Sequence[Token]) -> None:
        """Decode tokens, by ascending sequence, after which no logits are wanted."""
        for start in range(0, len(tokens), self._room):
            self._decode(tokens[start : start + self._room], wanted=False)

    def logits(self, tokens: Sequence[Token]) -> NDArray[np.float32]:
        """The logits after each of at most `outputs` tokens, by ascending sequence.

        (tokens, vocabulary); they hold until the next step.
        """
        self._decode(tokens, wanted=True)
        pointer = self.llama.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(pointer, shape=(len(tokens), self.model.vocab_size))

    def logits_along(
        self, prompt: Sequence[int], reply: Sequence[int]
    ) -> Iterator[NDArray[np.float32]]:
        """Forget all, read a prompt and a reply; yields the logits that predict each reply token.

        A yielded row, (vocabulary,), holds until the next one.
        """
        self.clear()
        self.read(run_of(prompt[:-1], SHARED))
        tokens = run_of([prompt[-1], *reply[:-1]], SHARED, len(prompt) - 1)
        for start in range(0, len(tokens), self.outputs):
            yield from self.logits(tokens[start : start + self.outputs])

    def _decode(self, tokens: Sequence[Token], *, wanted: bool) -> None:
        batch = self._batch
        batch.n_tokens = len(tokens)
        ids, positions, sequences = batch.token, batch.pos, batch.seq_id
        counts, outputs = batch.n_seq_id, batch.logits
        for place, token in enumerate(tokens):
            ids[place], positions[place], outputs[place] = token.id, token.position, wanted
            counts[place], sequences[place][0] = 1, token.sequence
        code = self.llama.llama_decode(self.handle, batch)
        if code:
            reason = "no room left in the KV cache" if code == 1 else f"llama_decode gave {code}"
            raise RuntimeError(f"decoding {self.model.path} failed: {reason}")
