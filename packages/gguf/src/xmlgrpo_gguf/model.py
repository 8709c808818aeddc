"""A GGUF file opened with llama.cpp: its vocabulary, chat template and metadata.

Thin over llama-cpp-python's low-level bindings, since the high-level `Llama` decodes one sequence
at a time and adds a second BOS to a prompt that already has one.
"""

import ctypes
import os
from collections import deque
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

from xmlgrpo_gguf.header import require_gguf
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.checkout import is_installed

_PIECE_BYTES = 512  # more than the longest piece of the vocabularies in use
_ERROR_LEVEL = 4  # GGML_LOG_LEVEL_ERROR in ggml.h


def require_llama_cpp() -> Any:
    """llama-cpp-python's low-level module; a UserError where it is not installed."""
    if not is_installed("llama_cpp"):
        raise UserError(
            "a GGUF file needs llama-cpp-python, which is not installed; it is built once from "
            "source: make gguf-setup"
        )
    import llama_cpp

    return llama_cpp


@cache
def _backend() -> tuple[Any, deque[str], Any]:
    """llama.cpp, started once and silent; its last errors, for our messages; its log's callback.

    llama.cpp keeps a pointer to the callback, so that must live as long.
    """
    llama, errors = require_llama_cpp(), deque[str](maxlen=8)

    def keep(level: int, text: bytes, _user_data: Any) -> None:
        if level == _ERROR_LEVEL:
            errors.append(text.decode(errors="replace").strip())

    callback = llama.llama_log_callback(keep)
    llama.llama_log_set(callback, None)
    llama.llama_backend_init()
    return llama, errors, callback


class GgufModel:
    """The weights and the vocabulary of one GGUF file; as a context manager, until its end.

    Args:
        path: the file; one from elsewhere has been through `probe.probe`.
        gpu_layers: layers on the GPU, where llama.cpp was built for one; -1 for all.
        vocab_only: leave the weights out.

    Raises:
        UserError: llama-cpp-python is missing, there is no such file, or it cannot be loaded.
    """

    def __init__(self, path: Path, *, gpu_layers: int = -1, vocab_only: bool = False) -> None:
        self.llama, errors, _ = _backend()
        self.path = path
        require_gguf(path)
        errors.clear()
        settings = self.llama.llama_model_default_params()
        settings.vocab_only = vocab_only
        settings.n_gpu_layers = gpu_layers if self.llama.llama_supports_gpu_offload() else 0
        self.handle = self.llama.llama_model_load_from_file(os.fsencode(path), settings)
        if not self.handle:
            reason = "; ".join(errors) or "no reason given"
            raise UserError(f"llama.cpp cannot load {path}: {reason}; export the file again")
        self.vocab = self.llama.llama_model_get_vocab(self.handle)
        self._pieces: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_reason: object) -> None:
        """Give the weights back; the object cannot be used afterwards."""
        self.llama.llama_model_free(self.handle)

    @cached_property
    def vocab_size(self) -> int:
        """Number of tokens, which is the width of a row of logits."""
        return int(self.llama.llama_vocab_n_tokens(self.vocab))

    @cached_property
    def trained_context(self) -> int:
        """The longest sequence, in tokens, that the model was trained for."""
        return int(self.llama.llama_model_n_ctx_train(self.handle))

    @cached_property
    def sliding_window(self) -> int:
        """Width of the sliding attention window in tokens; 0 without one."""
        return int(self.llama.llama_model_n_swa(self.handle))

    @cached_property
    def parameters(self) -> int:
        """Number of weights."""
        return int(self.llama.llama_model_n_params(self.handle))

    @cached_property
    def bits_per_weight(self) -> float:
        """Mean size of a weight, from the tensors' sizes."""
        return 8 * int(self.llama.llama_model_size(self.handle)) / self.parameters

    @cached_property
    def description(self) -> str:
        """Architecture, size and quantization in llama.cpp's words."""
        buffer = ctypes.create_string_buffer(256)
        self.llama.llama_model_desc(self.handle, buffer, len(buffer))
        return buffer.value.decode(errors="replace")

    @cached_property
    def chat_template(self) -> str | None:
        """The Jinja chat template in the file's metadata; None when it has none."""
        name = b"tokenizer.chat_template"
        size = self.llama.llama_model_meta_val_str(self.handle, name, None, 0)
        if size < 0:
            return None
        buffer = ctypes.create_string_buffer(size + 1)
        self.llama.llama_model_meta_val_str(self.handle, name, buffer, len(buffer))
        return buffer.value.decode(errors="replace")

    @cached_property
    def bos(self) -> int:
        """Id of the token that begins a sequence; -1 without one."""
        return int(self.llama.llama_vocab_bos(self.vocab))

    @cached_property
    def eos(self) -> int:
        """Id of the token that ends a sequence; -1 without one."""
        return int(self.llama.llama_vocab_eos(self.vocab))

    @cached_property
    def eot(self) -> int:
        """Id of the token that ends a turn; -1 without one."""
        return int(self.llama.llama_vocab_eot(self.vocab))

    @cached_property
    def bos_text(self) -> str:
        """The BOS as it is written; empty without one."""
        return self.token_text(self.bos)

    def ends_generation(self, token: int) -> bool:
        """Whether llama.cpp stops at this token (`<eos>`, `<end_of_turn>` and their like)."""
        return bool(self.llama.llama_vocab_is_eog(self.vocab, token))

    def is_control(self, token: int) -> bool:
        """Whether the token is markup that no text should show."""
        return bool(self.llama.llama_vocab_is_control(self.vocab, token))

    def tokenize(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        """Token ids of `text`, markup such as `<start_of_turn>` read as tokens.

        Args:
            add_bos: whether to put a BOS in front; None follows the file, except that a text that
                begins with the BOS already does not get a second one.
        """
        if add_bos is None:
            has_bos = self.bos_text and text.startswith(self.bos_text)
            add_bos = not has_bos and bool(self.llama.llama_vocab_get_add_bos(self.vocab))
        raw = text.encode("utf-8", errors="replace")
        room = len(raw) + 16  # a token is at least one byte, plus BOS and a leading space
        buffer = (self.llama.llama_token * room)()
        count = self.llama.llama_tokenize(self.vocab, raw, len(raw), buffer, room, add_bos, True)  # noqa: FBT003  # a C function: positional only
        if count < 0:
            raise RuntimeError(f"llama_tokenize needs {-count} tokens for {len(raw)} bytes")
        return list(buffer[:count])

    def piece(self, token: int) -> bytes:
        """The bytes a token writes; nothing for markup.  A character may span tokens."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._render(token, special=False)
        return known

    def token_text(self, token: int) -> str:
        """The token as it is written, markup included; empty for -1, which is no token."""
        return self._render(token, special=True).decode(errors="replace") if token >= 0 else ""

    def _render(self, token: int, *, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        size = self.llama.llama_token_to_piece(self.vocab, token, buffer, _PIECE_BYTES, 0, special)
        return buffer.raw[: max(size, 0)]
