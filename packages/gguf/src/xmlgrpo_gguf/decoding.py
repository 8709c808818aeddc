"""llama.cpp's decoding context: the KV cache of every sequence, and one step over a batch."""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from xmlgrpo_gguf.model import GgufModel
from xmlgrpo_rewards.errors import UserError

SHARED = 0
"""The sequence that holds what all others begin with; theirs are 1, 2, ... up to `slots`."""
BATCH_TOKENS = 512
_OUTPUTS = 64  # rows of logits a step where many are wanted: 64 MiB with Gemma's vocabulary
_CELLS = 256  # llama.cpp gives a sequence a multiple of this


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens of a sequence, the first of them at position `start`."""

    sequence: int
    tokens: Sequence[int]
    start: int = 0


class Batch:
    """The tokens of one step, a `llama_batch`.

    Behind numpy views, since ctypes costs more than a small model's step.
    """

    def __init__(self, llama: Any, room: int) -> None:
        self._llama, self.room, self.count = llama, room, 0
        self.native = llama.llama_batch_init(room, 0, 1)

        def view(pointer: Any, kind: Any) -> NDArray[Any]:
            return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(kind)), shape=(room,))

        self._token = view(self.native.token, ctypes.c_int32)
        self._position = view(self.native.pos, ctypes.c_int32)
        self._wanted = view(self.native.logits, ctypes.c_int8)
        self._sequence = [
            np.ctypeslib.as_array(self.native.seq_id[i], shape=(1,)) for i in range(room)
        ]
        view(self.native.n_seq_id, ctypes.c_int32)[:] = 1

    @property
    def full(self) -> bool:
        """Whether no further token fits."""
        return self.count >= self.room

    def clear(self) -> None:
        """Start an empty batch."""
        self.count = 0

    def add(self, token: int, position: int, sequence: int, *, wanted: bool) -> None:
        """Append a token; `wanted` says whether the logits after it are computed."""
        place = self.count
        self._token[place], self._position[place] = token, position
        self._wanted[place], self._sequence[place][0] = wanted, sequence
        self.count += 1

    def free(self) -> None:
        """Give the memory back."""
        self._llama.llama_batch_free(self.native)


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
                f"llama.cpp cannot make a context of {context} tokens for {model.path}: too "
                "little memory? Use a smaller --batch-size"
            )
        self._memory = self.llama.llama_get_memory(self.handle)
        self.batch = Batch(self.llama, settings.n_batch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_reason: object) -> None:
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

    def rows(self, count: int) -> NDArray[np.float32]:
        """The wanted logits of the last step, `(count, vocabulary)`, in the batch's order."""
        pointer = self.llama.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(pointer, shape=(count, self.model.vocab_size))

    def logits_along(self, prompt: Sequence[int], reply: Sequence[int]) -> Iterator[Any]:
        """Forget all, read a prompt and a reply; yields the logits that predict each reply token.

        A yielded row, (vocabulary,), holds until the next step.
        """
        self.clear()
        self.feed([Part(SHARED, prompt[:-1])])
        read, first = [prompt[-1], *reply[:-1]], len(prompt) - 1
        for start in range(0, len(read), self.outputs):
            self.batch.clear()
            for position, token in enumerate(read[start : start + self.outputs], first + start):
                self.batch.add(token, position, SHARED, wanted=True)
            self.decode()
            yield from self.rows(self.batch.count)
