"""llama.cpp's decoding context: the KV cache of every sequence, and one step over a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from xmlgrpo_gguf.model import GgufModel
from xmlgrpo_gguf.native_batch import NativeBatch
from xmlgrpo_rewards.errors import UserError

SHARED = 0
"""The sequence that holds what all others begin with; theirs are 1, 2, ... up to `slots`."""
_CELLS = 256  # llama.cpp gives a sequence a multiple of this


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens of a sequence, the first of them at position `start`."""

    sequence: int
    tokens: Sequence[int]
    start: int = 0


class DecodingContext:
    """A KV cache over a loaded model, and the steps that fill it; a context manager.

    Every sequence has a cache of its own (`kv_unified` off).  In one cache for all, a token looks
    past the others' cells too, which at 500 new tokens and 16 sequences took 1.6 times the CPU
    time.  The price is an order to keep: llama.cpp decodes together only sequences whose numbers
    follow each other upwards in the batch (`split_equal` in llama-batch.cpp), and the rest one by
    one.  So callers add tokens by ascending sequence.

    Args:
        model: the loaded GGUF.
        slots: how many sequences there are beside the shared one.
        context: tokens that one sequence may hold, the shared ones included.
        threads: CPU threads.
        step_tokens: most tokens in one step.
        step_outputs: most rows of logits in one step; a row of Gemma's vocabulary is 1 MiB.
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
        step_tokens: int = 512,
        step_outputs: int = 0,
        keep_window: bool = False,
    ) -> None:
        self.model, self.llama, self.slots = model, model.llama, slots
        # llama.cpp wants room for one row of every sequence, the shared one included
        self.outputs = max(slots + 1, step_outputs)
        settings = self.llama.llama_context_default_params()
        settings.n_seq_max = slots + 1
        settings.kv_unified = False
        settings.n_ctx = _CELLS * -(-context // _CELLS) * settings.n_seq_max
        settings.n_batch = settings.n_ubatch = max(step_tokens, self.outputs)
        settings.n_outputs_max = self.outputs
        settings.n_threads = settings.n_threads_batch = threads
        settings.swa_full = keep_window
        self.handle = self.llama.llama_init_from_model(model.handle, settings)
        if not self.handle:
            raise UserError(
                f"llama.cpp cannot make a context of {context} tokens for {model.path}: too "
                "little memory? Use a smaller --batch-size"
            )
        self._memory = self.llama.llama_get_memory(self.handle)
        self.batch = NativeBatch(self.llama, max(step_tokens, self.outputs))
        self.steps = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.batch.free()
        self.llama.llama_free(self.handle)

    # sequences

    def clear(self) -> None:
        """Forget every sequence."""
        self.llama.llama_memory_clear(self._memory, True)  # noqa: FBT003  # a C function

    def begin(self, slot: int) -> None:
        """Let a sequence begin with what the shared one holds."""
        self.llama.llama_memory_seq_cp(self._memory, SHARED, slot, -1, -1)

    def forget(self, slot: int) -> None:
        """Give a sequence's cells back."""
        self.llama.llama_memory_seq_rm(self._memory, slot, -1, -1)

    # steps

    def feed(self, parts: Sequence[Part]) -> None:
        """Decode tokens whose logits nobody wants.

        Args:
            parts: runs of tokens, by ascending sequence.
        """
        self.batch.clear()
        for part in parts:
            for position, token in enumerate(part.tokens, part.start):
                if self.batch.full:
                    self.decode()
                    self.batch.clear()
                self.batch.add(token, position, part.sequence, wanted=False)
        if self.batch.count:
            self.decode()

    def decode(self) -> None:
        """Decode the batch.

        Raises:
            RuntimeError: llama.cpp does not.
        """
        self.batch.native.n_tokens = self.batch.count
        code = self.llama.llama_decode(self.handle, self.batch.native)
        if code:
            reason = "no room left in the KV cache" if code == 1 else f"llama_decode gave {code}"
            raise RuntimeError(f"decoding {self.model.path} failed: {reason}")
        self.steps += 1

    def rows(self, count: int) -> NDArray[np.float32]:
        """The wanted logits of the last step, `(count, vocabulary)`, in the batch's order."""
        pointer = self.llama.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(pointer, shape=(count, self.model.vocab_size))
