"""llama.cpp's batch: the tokens of one step, with their places and sequences."""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray


class NativeBatch:
    """A `llama_batch` behind numpy views, since ctypes costs more than a small model's step."""

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

    def add(self, token: int, position: int, sequence: int, *, wanted: bool) -> int:
        """Append a token; returns its place in the batch."""
        place = self.count
        self._token[place], self._position[place] = token, position
        self._wanted[place], self._sequence[place][0] = wanted, sequence
        self.count += 1
        return place

    def free(self) -> None:
        """Give the memory back."""
        self._llama.llama_batch_free(self.native)
