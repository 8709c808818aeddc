"""One sequence through llama.cpp's own batch interface, for the child that runs it.

llama-cpp-python's own way of asking for logits keeps a row of them for every token of the prompt;
a row of Gemma's vocabulary is 1 MiB.  Here only the rows that are asked for are computed.
"""

from collections.abc import Iterator
from typing import Any

from xmlgrpo_gguf.threads import decoding_threads

BATCH_TOKENS = 512
CLEAR_DATA = True


class Decoder:
    """A context that decodes one sequence at a time; logits are numpy views into it."""

    def __init__(self, llama: Any) -> None:
        import llama_cpp

        self._lib = llama_cpp
        self._context = llama.ctx
        self._vocab = llama_cpp.llama_model_get_vocab(llama.model)
        self._memory = llama_cpp.llama_get_memory(self._context)
        parameters = llama_cpp.llama_model_n_params(llama.model)
        self.threads = decoding_threads(parameters)
        of_prompts = decoding_threads(parameters, BATCH_TOKENS)
        llama_cpp.llama_set_n_threads(self._context, self.threads, of_prompts)
        self._batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)
        self.vocabulary: int = llama_cpp.llama_vocab_n_tokens(self._vocab)

    def clear(self) -> None:
        """Forget the sequence."""
        self._lib.llama_memory_clear(self._memory, CLEAR_DATA)

    def logits(self, ids: list[int], first: int) -> Iterator[Any]:
        """Decode a fresh sequence; yields the logits after each token from position `first` on."""
        self.clear()
        for start in range(0, len(ids), BATCH_TOKENS):
            chunk = range(start, min(start + BATCH_TOKENS, len(ids)))
            self._decode([ids[i] for i in chunk], start, [i >= first for i in chunk])
            for i in chunk:
                if i >= first:
                    yield self._row(i - start)

    def greedy(self, prompt: list[int], new_tokens: int) -> Iterator[int]:
        """The greedy reply, up to and with the first token that llama.cpp says ends it."""
        *_, last = self.logits(prompt, len(prompt) - 1)
        end = len(prompt) + new_tokens
        for place in range(len(prompt), end):
            token = int(last.argmax())
            yield token
            if place + 1 == end or self._lib.llama_vocab_is_eog(self._vocab, token):
                return
            self._decode([token], place, [True])
            last = self._row(0)

    def _decode(self, ids: list[int], start: int, wanted: list[bool]) -> None:
        batch = self._batch
        batch.n_tokens = len(ids)
        for i, (token, want) in enumerate(zip(ids, wanted, strict=True)):
            batch.token[i], batch.pos[i], batch.logits[i] = token, start + i, want
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        code = self._lib.llama_decode(self._context, batch)
        if code:
            raise RuntimeError(f"llama_decode returned {code}")

    def _row(self, i: int) -> Any:
        import numpy as np

        pointer = self._lib.llama_get_logits_ith(self._context, i)
        return np.ctypeslib.as_array(pointer, shape=(self.vocabulary,))
