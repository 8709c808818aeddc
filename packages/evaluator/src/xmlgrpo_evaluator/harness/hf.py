"""lm-eval's `hf` model, answered by an engine of xmlgrpo_rollout where one can.

Scoring, tokenizing, the cutting of long prompts and devices are lm-eval's.  Replies are written by
the `graph` engine where it knows the model and what is asked, in batches of prompts of like length;
else by lm-eval's own call of transformers' `generate`.  Either way every reply has its length.

One thing differs from lm-eval: with an adapter, it resizes the embedding table to the length of the
tokenizer, which for Gemma 3 differs from the table's by the image tokens, and so evaluates another
model.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import lm_eval.models  # noqa: F401  # before ours: lm-eval fills its registry only while empty
from lm_eval.api.instance import Instance
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM

from xmlgrpo_evaluator.harness.hf_options import (
    EngineRequest,
    NotServedError,
    cannot_answer,
    read_options,
)
from xmlgrpo_evaluator.journal import CountedReply, EngineUse
from xmlgrpo_rollout.attention_guard import guard_transformers
from xmlgrpo_rollout.choice import EngineChoice, choose_engine, why_not_captured, why_not_read

SLOTS_CPU, SLOTS_GPU = 64, 128
"""Replies that the engine writes at once: more save time, fewer are lost when it is interrupted."""
LM_EVAL_ONLY = (
    *("think_end_token", "mixed_precision_dtype", "parallelize", "device_map", "tp_plan"),
)
"""Arguments of `HFLM` that only its own call of `generate` knows."""


class CountedHF(HFLM):  # type: ignore[misc]  # lm-eval is untyped
    """`HFLM` with an engine, whose replies are `CountedReply` where the cache hook gets them.

    Args:
        engine: `graph`, `generate`, or `auto` for `graph` where it can serve.
        slots: replies that the engine writes at once; None for 64 on a CPU, 128 on a GPU.
        on_engine: gets what answers, before the first reply of each kind of request.
    """

    def __init__(
        self,
        *,
        engine: str = "auto",
        slots: int | None = None,
        on_engine: Callable[[EngineUse], None] = lambda _use: None,
        **options: Any,
    ) -> None:
        self._lengths: deque[tuple[int, bool]] = deque()
        self._asked_engine, self._on_engine = engine, on_engine
        self._choice: EngineChoice | None = None
        self._choice_stops: tuple[int, ...] = ()
        self._lm_eval_only = next((name for name in LM_EVAL_ONLY if options.get(name)), None)
        guard_transformers()
        super().__init__(**options)
        self.slots = slots or (SLOTS_GPU if self.device.type == "cuda" else SLOTS_CPU)

    def generate_until(
        self,
        requests: list[Instance],
        disable_tqdm: bool = False,  # noqa: FBT001, FBT002  # lm-eval's signature
    ) -> list[str]:
        """Write the replies, those with equal options together.

        Raises:
            UserError: `graph` was asked for and cannot answer.
        """
        alike: dict[str, list[int]] = defaultdict(list)
        for number, request in enumerate(requests):
            alike[repr(request.args[1])].append(number)
        groups = [(n, self._served(requests[n[0]].args[1])) for n in alike.values()]
        replies: dict[int, str] = {}
        for numbers, served in groups:
            group = [requests[number] for number in numbers]
            if isinstance(served, EngineRequest):
                written: Sequence[str] = self._by_engine(group, served)
            else:
                self._on_engine(EngineUse("generate", served, self.batch_size))
                written = super().generate_until(group, disable_tqdm=disable_tqdm)
            replies.update(zip(numbers, written, strict=True))
        return [replies[number] for number in range(len(requests))]

    def _served(self, options: Mapping[str, Any]) -> EngineRequest | str:
        """What an engine is asked, or why none is."""
        try:
            return self._engine_request(options)
        except NotServedError as reason:
            if self._asked_engine == "graph":
                raise cannot_answer(reason) from None
            return str(reason)

    def _engine_request(self, options: Mapping[str, Any]) -> EngineRequest:
        if self._asked_engine == "generate":
            raise NotServedError("asked for")
        if self._lm_eval_only is not None:
            raise NotServedError(f"{self._lm_eval_only} is lm-eval's own")
        obstacle = why_not_read(self.model)
        if obstacle is None and self.device.type == "cuda":
            obstacle = why_not_captured()
        if obstacle is not None:
            raise NotServedError(obstacle)
        request = read_options(
            options, self.model.generation_config, self.tokenizer, self.max_gen_toks
        )
        if self._room(request) < 1:
            raise NotServedError("a reply may be as long as the model's context")
        choice = self._chosen(request.stop_ids)
        if choice.name != "graph":
            raise NotServedError(choice.reason)
        return request

    def _room(self, request: EngineRequest) -> int:
        """Tokens that a prompt may have."""
        return int(self.max_length) - request.sampling.max_new_tokens

    def _chosen(self, stop_ids: tuple[int, ...]) -> EngineChoice:
        """The engine with these stop tokens; one is kept, since it may hold a copy of the model."""
        if self._choice is None or self._choice_stops != stop_ids:
            self._choice = None
            self._choice = choose_engine(self._asked_engine, self.model, self.tokenizer, stop_ids)
            self._choice_stops = stop_ids
        return self._choice

    def _by_engine(self, requests: Sequence[Instance], asked: EngineRequest) -> list[str]:
        choice = self._chosen(asked.stop_ids)
        self._on_engine(EngineUse("graph", choice.reason, self.slots))
        places: dict[str, list[int]] = defaultdict(list)
        for number, request in enumerate(requests):
            places[request.args[0]].append(number)
        # prompts that are asked equally often together, so that each is read once; of these the
        # longest first, as lm-eval does: the caches made for them fit all others
        length = {text: len(self.tok_encode(text)) for text in places}
        order = sorted(places, key=lambda text: (-len(places[text]), -length[text], text))
        replies: dict[int, CountedReply] = {}
        for samples, alike in groupby(order, key=lambda text: len(places[text])):
            at_once, group = max(1, self.slots // samples), list(alike)
            for start in range(0, len(group), at_once):
                texts = group[start : start + at_once]
                prompts = self._prompts(texts, self._room(asked))
                written = choice.engine(prompts, samples, asked.sampling)
                numbers = [number for text in texts for number in places[text]]
                for number, completion in zip(numbers, written, strict=True):
                    replies[number] = asked.reply(completion.tokens, self.tokenizer)
                    self.cache_hook.add_partial(
                        "generate_until", requests[number].args, replies[number]
                    )
        return [replies[number] for number in range(len(requests))]

    @property
    def unreported(self) -> int:
        """Replies of the batch that is being written which are finished, but not handed on yet."""
        return getattr(self._choice.engine, "finished", 0) if self._choice else 0

    def _prompts(self, texts: list[str], room: int) -> list[list[int]]:
        """Token ids, cut as lm-eval cuts them, without its padding."""
        ids_B_T, seen_B_T = self.tok_batch_encode(
            texts, left_truncate_len=room, truncation=self.truncation
        )
        return [ids[seen.bool()].tolist() for ids, seen in zip(ids_B_T, seen_B_T, strict=True)]

    def _create_model(self, *args: Any, peft: str | None = None, **options: Any) -> None:
        super()._create_model(*args, **options)
        if peft:
            from peft import PeftModel

            self._model: Any = PeftModel.from_pretrained(self._model, peft)

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Put the counts on every reply before `cache_hook` sees it."""
        self.cache_hook = _CountingHook(cache_hook, self._lengths)

    def _model_generate(
        self, context: Any, max_length: int, stop: list[str], **options: Any
    ) -> Any:
        written = super()._model_generate(context, max_length=max_length, stop=stop, **options)
        start = context.shape[1]
        ends = self._end_tokens(stop)
        for row in written[:, start:].tolist():
            end = next((i for i, token in enumerate(row) if token in ends), None)
            if end is not None:
                self._lengths.append((end + 1, False))
                continue
            # a stop string ended it, or nothing did; shorter rows of a batch are filled up
            count = next((i for i, t in enumerate(row) if t == self.tokenizer.pad_token_id), None)
            cut = len(row) == max_length - start and not self._holds_stop(row, stop)
            self._lengths.append((len(row) if count is None else count, cut))
        return written

    def _end_tokens(self, stop: list[str]) -> set[int]:
        """Tokens that end a reply: the model's own, and stop strings that are one token."""
        configured = self.model.generation_config.eos_token_id
        eos = configured if isinstance(configured, list) else [configured]
        stops = [self.tokenizer.encode(string, add_special_tokens=False) for string in stop]
        single = [tokens[0] for tokens in stops if len(tokens) == 1]
        return {token for token in (*eos, *single, self.eot_token_id) if token is not None}

    def _holds_stop(self, row: list[int], stop: list[str]) -> bool:
        text = self.tokenizer.decode(row)
        return any(string and string in text for string in stop)


class _CountingHook:
    """Pairs replies with their lengths: `HFLM` hands both over in the same order."""

    def __init__(self, hook: CacheHook, lengths: deque[tuple[int, bool]]) -> None:
        self._hook, self._lengths = hook, lengths

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        if attr == "generate_until" and not isinstance(res, CountedReply):
            tokens, truncated = self._lengths.popleft()
            res = CountedReply(res, tokens=tokens, truncated=truncated)
        self._hook.add_partial(attr, req, res)
