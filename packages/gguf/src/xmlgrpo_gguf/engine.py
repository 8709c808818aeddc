"""Many replies at once through llama.cpp: continuous batching over the low-level API.

One step decodes the next token of every running sequence.  A slot that becomes free takes the next
request at once.  What all prompts share (chat prelude and system prompt) is decoded a single time,
into the shared sequence, and copied to the others.

On a CPU the table of outputs is most of the work (60 % of a step of gemma-3-270m), and it is
cheaper the more rows are asked of it together.  So no logits are computed while a prompt is read:
its last token waits for the next step, beside the tokens of the others.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from math import isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xmlgrpo_gguf.context import SHARED, DecodingContext, Token, run_of
from xmlgrpo_gguf.model import GgufModel
from xmlgrpo_rewards.errors import UserError

Finish = Literal["end", "stop", "length"]  # the model's own end, a stop string, cut off


@dataclass(frozen=True, slots=True)
class GgufSampling:
    """How the next token is drawn.  The order is that of transformers: temperature first.

    Temperature 0 is greedy decoding, whatever the other values are.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0

    def samplers(self, llama: Any) -> Any | None:
        """llama.cpp's samplers, which the caller frees; None for greedy decoding."""
        if self.temperature <= 0:
            return None
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        add = partial(llama.llama_sampler_chain_add, chain)
        add(llama.llama_sampler_init_temp(self.temperature))
        if self.top_k > 0:
            add(llama.llama_sampler_init_top_k(self.top_k))
        if self.top_p < 1:
            add(llama.llama_sampler_init_top_p(self.top_p, 1))
        if self.min_p > 0:
            add(llama.llama_sampler_init_min_p(self.min_p, 1))
        add(llama.llama_sampler_init_dist(self.seed & 0xFFFFFFFF))
        return chain


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request: token ids, and when to stop."""

    tokens: Sequence[int]
    max_new: int  # the most tokens to write
    stops: Sequence[bytes] = ()  # what ends the reply, and is cut off
    sampling: GgufSampling = GgufSampling()


@dataclass(frozen=True, slots=True)
class Written:
    """What was written for one request."""

    text: str  # decoded; bytes that are no UTF-8 become U+FFFD
    tokens: int  # how many, the one that ended the reply included
    finish: Finish


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; the last token of each is never counted.

    A single prompt shares nothing.
    """
    if len(prompts) < 2:
        return 0
    # in sorted order the two ends differ the earliest
    low, high = min(map(tuple, prompts)), max(map(tuple, prompts))
    limit = min(map(len, prompts)) - 1
    return next((at for at in range(limit) if low[at] != high[at]), limit)


@dataclass(slots=True)
class _Running:
    """A request in a slot.  `last` is the token to decode next, `position` its place."""

    index: int
    prompt: Prompt
    stop_tokens: frozenset[int]
    sampler: Any
    last: int
    position: int
    count: int = 0
    text: bytearray = field(default_factory=bytearray)


class GgufEngine:
    """Writes replies to prompts, as many at a time as the context has slots."""

    def __init__(self, decoding: DecodingContext) -> None:
        self._decoding, self._model = decoding, decoding.model
        self._running: dict[int, _Running] = {}

    def write(
        self,
        prompts: Sequence[Prompt],
        on_done: Callable[[int, Written], None] = lambda _index, _written: None,
        on_token: Callable[[int, int], None] = lambda _index, _token: None,
    ) -> list[Written]:
        """The replies to all prompts, in their order.

        Args:
            on_done: called with the index of a request as soon as its reply is finished.
            on_token: called with the index of a request and each of its tokens, the one that ends
                the reply included.

        Raises:
            UserError: the model computes values that are no numbers.
        """
        done: dict[int, Written] = {}
        shared = shared_prefix([prompt.tokens for prompt in prompts])
        self._decoding.clear()
        self._decoding.read(run_of(prompts[0].tokens[:shared], SHARED) if shared else [])
        waiting = list(range(len(prompts)))[::-1]
        free = set(range(1, self._decoding.slots + 1))
        try:
            while waiting or self._running:
                fresh = sorted(free)[: len(waiting)]
                free.difference_update(fresh)
                for slot in fresh:
                    index = waiting.pop()
                    prompt = prompts[index]
                    self._running[slot] = _Running(
                        index,
                        prompt,
                        stop_tokens=self._stop_tokens(prompt.stops),
                        sampler=prompt.sampling.samplers(self._decoding.llama),
                        last=prompt.tokens[-1],
                        position=len(prompt.tokens) - 1,
                    )
                self._read(fresh, shared)
                for slot, finish in self._step(on_token):
                    request = self._release(slot)
                    free.add(slot)
                    text = request.text.decode(errors="replace")
                    done[request.index] = Written(text, request.count, finish)
                    on_done(request.index, done[request.index])
        finally:
            for slot in tuple(self._running):
                self._release(slot)
        return [done[index] for index in range(len(prompts))]

    def _read(self, slots: Sequence[int], shared: int) -> None:
        """Decode the prompts in these slots, all but what is shared and their last tokens."""
        if shared:
            for slot in slots:
                self._decoding.begin(slot)
        prompts = {slot: self._running[slot].prompt.tokens for slot in slots}
        runs = [run_of(prompts[slot][shared:-1], slot, shared) for slot in slots]
        self._decoding.read(list(chain.from_iterable(runs)))

    def _release(self, slot: int) -> _Running:
        request = self._running.pop(slot)
        self._decoding.forget(slot)
        if request.sampler:
            self._decoding.llama.llama_sampler_free(request.sampler)
        return request

    def _stop_tokens(self, stops: Sequence[bytes]) -> frozenset[int]:
        """Stop strings that are one markup token: they write nothing, so text cannot show them."""
        tokenized = [self._model.tokenize(stop.decode(), add_bos=False) for stop in stops]
        return frozenset(t[0] for t in tokenized if len(t) == 1 and self._model.is_control(t[0]))

    def _step(self, on_token: Callable[[int, int], None]) -> list[tuple[int, Finish]]:
        """Decode one token of every running sequence; returns who finished."""
        running = sorted(self._running.items())  # the order in which they are decoded together
        tokens = [Token(request.last, request.position, slot) for slot, request in running]
        greedy = self._best(self._decoding.logits(tokens))
        finished: list[tuple[int, Finish]] = []
        for place, (slot, request) in enumerate(running):
            token = greedy[place]
            if request.sampler:
                token = self._decoding.llama.llama_sampler_sample(
                    request.sampler, self._decoding.handle, place
                )
            on_token(request.index, token)
            finish = self._take(request, token)
            if finish:
                finished.append((slot, finish))
        return finished

    def _best(self, rows: NDArray[np.float32]) -> list[int]:
        tokens = rows.argmax(axis=1)
        if not isfinite(float(rows[np.arange(len(rows)), tokens].sum())):
            raise UserError(
                f"{self._model.path} computes values that are no numbers; a model converted to "
                "f16 may have overflowed: convert it to bf16 or f32"
            )
        return [int(token) for token in tokens]

    def _take(self, request: _Running, token: int) -> Finish | None:
        """Append a token to a reply; says why the reply is over, if it is."""
        request.count += 1
        if self._model.ends_generation(token) or token in request.stop_tokens:
            return "end"
        request.last, request.position = token, request.position + 1
        piece = self._model.piece(token)
        request.text += piece
        for stop in request.prompt.stops:
            # only where the new piece can have completed the stop string
            found = request.text.find(stop, max(0, len(request.text) - len(piece) - len(stop)))
            if found >= 0:
                del request.text[found:]
                return "stop"
        return "length" if request.count >= request.prompt.max_new else None


@contextmanager
def engine_for(
    model: GgufModel,
    prompts: Sequence[Prompt],
    *,
    slots: int,
    threads: int,
    prompt_threads: int | None = None,
) -> Iterator[GgufEngine]:
    """An engine just large enough for these prompts; the rest as `DecodingContext` takes it."""
    shared = shared_prefix([p.tokens for p in prompts])
    with DecodingContext(
        model,
        slots=max(1, min(slots, len(prompts))),
        context=max((len(p.tokens) + p.max_new for p in prompts), default=1),
        threads=threads,
        prompt_threads=prompt_threads,
        keep_window=0 < model.sliding_window <= shared,
    ) as decoding:
        yield GgufEngine(decoding)
