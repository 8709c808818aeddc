"""Many sequences at once through llama.cpp: continuous batching over the low-level API.

One step decodes the next token of every running sequence and, in the room that is left, prompt
tokens of sequences that have just started.  A slot that becomes free takes the next request at
once.  What all prompts share (chat prelude and system prompt) is decoded a single time, into
sequence 0, and copied to the others.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from xmlgrpo_evaluator.gguf_model import GgufModel
from xmlgrpo_evaluator.native_batch import NativeBatch
from xmlgrpo_evaluator.sequences import Finish, Prompt, Sampling, Scored, Written
from xmlgrpo_rewards.errors import UserError

_CELLS = 256  # llama.cpp gives a sequence a multiple of this


@dataclass(slots=True)
class _Running:
    """A request in a slot."""

    index: int
    prompt: Prompt
    stop_tokens: frozenset[int]
    fed: int
    sampler: Any = None
    last: int = -1
    count: int = 0
    text: bytearray = field(default_factory=bytearray)


class Engine:
    """A decoding context over a loaded model; a context manager.

    Args:
        model: the loaded GGUF.
        slots: how many sequences run at once.
        context: tokens that one sequence may hold, the shared prefix included.
        threads: CPU threads.
        step_tokens: most tokens in one step.
        step_outputs: most rows of logits in one step; a row of Gemma's vocabulary is 1 MiB.
        keep_window: keep every token of the sliding-window layers.  Needed when the shared prefix
            is longer than the window, whose cells could otherwise not be used again.
    """

    def __init__(
        self,
        model: GgufModel,
        *,
        slots: int,
        context: int,
        threads: int,
        step_tokens: int = 512,
        step_outputs: int | None = None,
        keep_window: bool = False,
    ) -> None:
        self._model, self._llama, self.slots = model, model.llama, slots
        # llama.cpp wants room for one row of every sequence, the shared one included
        self._outputs = max(slots + 1, step_outputs or 0)
        settings = self._llama.llama_context_default_params()
        settings.n_seq_max = slots + 1  # sequence 0 holds the shared prefix
        # a cache for each sequence: in one for all, every token looks past the others' cells,
        # which at 500 new tokens and 16 slots took 1.6 times the CPU time
        settings.kv_unified = False
        settings.n_ctx = _CELLS * -(-context // _CELLS) * settings.n_seq_max
        settings.n_batch = settings.n_ubatch = max(step_tokens, self._outputs)
        settings.n_outputs_max = self._outputs
        settings.n_threads = settings.n_threads_batch = threads
        settings.swa_full = keep_window
        self._handle = self._llama.llama_init_from_model(model.handle, settings)
        if not self._handle:
            raise UserError(
                f"llama.cpp cannot make a context of {context} tokens for {model.path}: too "
                "little memory? Use a smaller --batch-size"
            )
        self._memory = self._llama.llama_get_memory(self._handle)
        self._batch = NativeBatch(self._llama, max(step_tokens, self._outputs))
        self.steps = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._batch.free()
        self._llama.llama_free(self._handle)

    def set_threads(self, threads: int) -> None:
        """Use this many CPU threads from the next step on."""
        self._llama.llama_set_n_threads(self._handle, threads, threads)

    # writing

    def write(
        self, prompts: Sequence[Prompt], on_done: Callable[[int, Written], None] | None = None
    ) -> list[Written]:
        """Write a reply to every prompt, `slots` of them at a time.

        Args:
            prompts: the requests, started in this order.
            on_done: called with the index of a request as soon as its reply is finished.

        Returns:
            The replies, in the order of `prompts`.
        """
        done: dict[int, Written] = {}
        shared = self._feed_shared([p.tokens for p in prompts])
        waiting = list(range(len(prompts)))[::-1]
        free = list(range(self.slots, 0, -1))
        running: dict[int, _Running] = {}
        try:
            while waiting or running:
                while waiting and free:
                    slot = free.pop()
                    running[slot] = self._start(waiting.pop(), prompts, slot, shared)
                for slot, finish in self._step(running):
                    request = running.pop(slot)
                    free.append(slot)
                    self._release(slot, request)
                    count = request.count + (finish == "end")
                    reply = Written(request.text.decode(errors="replace"), count, finish)
                    done[request.index] = reply
                    if on_done:
                        on_done(request.index, reply)
        finally:
            for slot, request in running.items():
                self._release(slot, request)
        return [done[index] for index in range(len(prompts))]

    def _feed_shared(self, prompts: Sequence[Sequence[int]]) -> int:
        """Decode what all prompts begin with into sequence 0; returns its length in tokens."""
        self._llama.llama_memory_clear(self._memory, True)  # noqa: FBT003  # a C function
        shared = shared_prefix(prompts)
        if shared:
            self._feed(prompts[0][:shared], sequence=0, start=0)
        return shared

    def _feed(self, tokens: Sequence[int], *, sequence: int, start: int) -> None:
        """Decode tokens whose logits nobody wants."""
        for first in range(0, len(tokens), self._batch.room):
            self._batch.count = 0
            for offset, token in enumerate(tokens[first : first + self._batch.room], first):
                self._batch.add(token, start + offset, sequence, wanted=False)
            self._decode()

    def _start(self, index: int, prompts: Sequence[Prompt], slot: int, shared: int) -> _Running:
        prompt = prompts[index]
        if shared:
            self._llama.llama_memory_seq_cp(self._memory, 0, slot, -1, -1)
        return _Running(
            index,
            prompt,
            stop_tokens=self._stop_tokens(prompt.stops),
            fed=shared,
            sampler=self._make_sampler(prompt.sampling),
        )

    def _release(self, slot: int, request: _Running) -> None:
        self._llama.llama_memory_seq_rm(self._memory, slot, -1, -1)
        if request.sampler:
            self._llama.llama_sampler_free(request.sampler)

    def _stop_tokens(self, stops: Sequence[bytes]) -> frozenset[int]:
        """Stop strings that are one markup token: they write nothing, so text cannot show them."""
        tokenized = [self._model.tokenize(stop.decode(), add_bos=False) for stop in stops]
        return frozenset(t[0] for t in tokenized if len(t) == 1 and self._model.is_control(t[0]))

    def _make_sampler(self, sampling: Sampling) -> Any:
        if sampling.temperature <= 0:
            return None
        llama = self._llama
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        links = [llama.llama_sampler_init_temp(sampling.temperature)]
        if sampling.top_k > 0:
            links.append(llama.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1:
            links.append(llama.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0:
            links.append(llama.llama_sampler_init_min_p(sampling.min_p, 1))
        links.append(llama.llama_sampler_init_dist(sampling.seed & 0xFFFFFFFF))
        for link in links:
            llama.llama_sampler_chain_add(chain, link)
        return chain

    def _step(self, running: dict[int, _Running]) -> list[tuple[int, Finish]]:
        """Decode one token of every running sequence and some prompt; returns who finished."""
        batch = self._batch
        batch.count = 0
        wanted: list[tuple[int, int]] = []  # slot and place in the batch, in the batch's order
        for slot, request in running.items():
            if request.count:
                position = len(request.prompt.tokens) + request.count - 1
                wanted.append((slot, batch.add(request.last, position, slot, wanted=True)))
        for slot, request in running.items():
            tokens = request.prompt.tokens
            while request.fed < len(tokens) and not batch.full:
                is_last = request.fed == len(tokens) - 1
                place = batch.add(tokens[request.fed], request.fed, slot, wanted=is_last)
                request.fed += 1
                if is_last:
                    wanted.append((slot, place))
        self._decode()
        if not wanted:
            return []
        greedy = self._best(len(wanted))
        finished: list[tuple[int, Finish]] = []
        for (slot, place), best in zip(wanted, greedy, strict=True):
            request = running[slot]
            token = (
                self._llama.llama_sampler_sample(request.sampler, self._handle, place)
                if request.sampler
                else best
            )
            finish = self._take(request, token)
            if finish:
                finished.append((slot, finish))
        return finished

    def _take(self, request: _Running, token: int) -> Finish | None:
        """Append a token to a reply; says why the reply is over, if it is."""
        if self._model.ends_generation(token) or token in request.stop_tokens:
            return "end"
        request.last, request.count = token, request.count + 1
        piece = self._model.piece(token)
        request.text += piece
        for stop in request.prompt.stops:
            # only where the new piece can have completed the stop string
            found = request.text.find(stop, max(0, len(request.text) - len(piece) - len(stop)))
            if found >= 0:
                del request.text[found:]
                return "stop"
        return "length" if request.count >= request.prompt.max_new else None

    # scoring

    def score(self, context: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[Scored]:
        """Score continuations of one context, which is decoded a single time.

        Args:
            context: token ids, at least one.
            continuations: token ids of each continuation, at least one each.
        """
        self._llama.llama_memory_clear(self._memory, True)  # noqa: FBT003  # a C function
        self._feed(context[:-1], sequence=0, start=0)
        self._batch.count = 0
        self._batch.add(context[-1], len(context) - 1, 0, wanted=True)
        self._decode()
        row = self._rows(1)[0]
        firsts = [_score_token(row, c[0]) for c in continuations]
        scores = [[first] for first in firsts]
        for wave in range(0, len(continuations), self.slots):
            self._score_rest(
                context, continuations, scores, range(len(continuations))[wave : wave + self.slots]
            )
        return [
            Scored(sum(s.logprob for s in parts), all(s.is_greedy for s in parts))
            for parts in scores
        ]

    def _score_rest(
        self,
        context: Sequence[int],
        continuations: Sequence[Sequence[int]],
        scores: list[list[Scored]],
        wave: Sequence[int],
    ) -> None:
        """Score all but the first token of some continuations, each in a sequence of its own."""
        steps = [
            (slot, index, offset)
            for slot, index in enumerate(wave, start=1)
            for offset in range(len(continuations[index]) - 1)
        ]
        for slot in range(1, len(wave) + 1):
            self._llama.llama_memory_seq_cp(self._memory, 0, slot, -1, -1)
        for first in range(0, len(steps), self._outputs):
            chunk = steps[first : first + self._outputs]
            self._batch.count = 0
            for slot, index, offset in chunk:
                token = continuations[index][offset]
                self._batch.add(token, len(context) + offset, slot, wanted=True)
            self._decode()
            for row, (_, index, offset) in zip(self._rows(len(chunk)), chunk, strict=True):
                scores[index].append(_score_token(row, continuations[index][offset + 1]))
        for slot in range(1, len(wave) + 1):
            self._llama.llama_memory_seq_rm(self._memory, slot, -1, -1)

    # the step itself

    def _decode(self) -> None:
        self._batch.native.n_tokens = self._batch.count
        code = self._llama.llama_decode(self._handle, self._batch.native)
        if code:
            reason = "no room left in the KV cache" if code == 1 else f"llama_decode gave {code}"
            raise RuntimeError(f"decoding {self._model.path} failed: {reason}")
        self.steps += 1

    def _rows(self, count: int) -> NDArray[np.float32]:
        """The wanted logits of the last step, `(count, vocabulary)`, in the batch's order."""
        pointer = self._llama.llama_get_logits(self._handle)
        return np.ctypeslib.as_array(pointer, shape=(count, self._model.vocab_size))

    def _best(self, count: int) -> list[int]:
        rows = self._rows(count)
        tokens = rows.argmax(axis=1)
        if not isfinite(float(rows[np.arange(count), tokens].sum())):
            raise UserError(
                f"{self._model.path} computes values that are no numbers; a model converted to "
                "f16 may have overflowed: convert it to bf16 or f32"
            )
        return [int(token) for token in tokens]


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; the last token of each is never counted.

    A single prompt shares nothing.
    """
    if len(prompts) < 2:
        return 0
    # in sorted order the two ends differ the earliest
    low, high = min(map(tuple, prompts)), max(map(tuple, prompts))
    limit = min(len(p) for p in prompts) - 1
    for length in range(limit):
        if low[length] != high[length]:
            return length
    return limit


def _score_token(row: NDArray[np.float32], token: int) -> Scored:
    top = row.max()
    total = np.exp(row - top).sum(dtype=np.float64)
    return Scored(float(row[token] - top - np.log(total)), bool(row.argmax() == token))


@contextmanager
def engine_for(
    model: GgufModel, prompts: Sequence[Prompt], *, slots: int, threads: int
) -> Iterator[Engine]:
    """An engine just large enough for these prompts."""
    slots = max(1, min(slots, len(prompts)))
    shared = shared_prefix([p.tokens for p in prompts])
    with Engine(
        model,
        slots=slots,
        context=max((len(p.tokens) + p.max_new for p in prompts), default=1),
        threads=threads,
        keep_window=model.sliding_window > 0 and shared >= model.sliding_window,
    ) as engine:
        yield engine
