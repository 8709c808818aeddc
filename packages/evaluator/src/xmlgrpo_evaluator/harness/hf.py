"""lm-eval's `hf` model, answered by an engine of xmlgrpo_rollout where one can.

Scoring, tokenizing, the cutting of long prompts and devices are lm-eval's.  Replies come from
the `graph` engine where it knows the model and what is asked, in batches of prompts of like length;
else from lm-eval's own call of transformers' `generate`.  Either way every reply has its length.

One thing is mended: with an adapter, lm-eval resizes the embedding table to the length of the
tokenizer, which for Gemma 3 differs from the table's by the image tokens, and so evaluates another
model.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lm_eval.models  # noqa: F401  # before ours: lm-eval fills its registry only while empty
from lm_eval.api.instance import Instance
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM

from xmlgrpo_evaluator.harness.hf_options import (
    EngineRequest,
    NotServed,
    cannot_answer,
    read_options,
)
from xmlgrpo_evaluator.harness.replies import CountedReply
from xmlgrpo_evaluator.setup.engines import EngineUse
from xmlgrpo_rollout.attention import guard_transformers
from xmlgrpo_rollout.choice import EngineChoice, choose_engine, why_not_captured
from xmlgrpo_rollout.weights import why_not_read

SLOTS_CPU, SLOTS_GPU = 64, 128
"""Replies that the engine writes at once: more save time, fewer are lost when it is interrupted."""


class CountedHF(HFLM):  # type: ignore[misc]  # lm-eval is untyped
    """`HFLM` with an engine, whose replies are `CountedReply` where the cache hook gets them.

    Args:
        engine: `graph`, `generate`, or `auto` for `graph` where it can serve.
        slots: replies that the engine writes at once; None for 64 on a CPU, 128 on a GPU.
        on_engine: is told what answers, before the first reply of each kind of request.
        options: of `HFLM`.
    """

    def __init__(
        self,
        *,
        engine: str = "auto",
        slots: int | None = None,
        on_engine: Callable[[EngineUse], None] | None = None,
        **options: Any,
    ) -> None:
        self._lengths: deque[tuple[int, bool]] = deque()
        self._asked_engine, self._on_engine = engine, on_engine
        self._choice: EngineChoice | None = None
        self._choice_stops: tuple[int, ...] = ()
        self._keeps_lm_eval = _why_lm_eval(options)
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
                self._tell(EngineUse("generate", served.reason, self.batch_size))
                written = super().generate_until(group, disable_tqdm=disable_tqdm)
            replies.update(zip(numbers, written, strict=True))
        return [replies[number] for number in range(len(requests))]

    def _served(self, options: dict[str, Any]) -> EngineRequest | NotServed:
        """What an engine is asked, or why none is."""
        if self._asked_engine == "generate":
            return NotServed("asked for")
        obstacle = self._keeps_lm_eval or why_not_read(self.model)
        if obstacle is None and self.device.type == "cuda":
            obstacle = why_not_captured()
        served: EngineRequest | NotServed
        if obstacle is not None:
            served = NotServed(obstacle)
        else:
            served = read_options(
                options, self.model.generation_config, self.tokenizer, self.max_gen_toks
            )
        if isinstance(served, EngineRequest) and self._room(served) < 1:
            served = NotServed("a reply may be as long as the model's context")
        if isinstance(served, EngineRequest):
            choice = self._chosen(served.stop_ids)
            served = served if choice.name == "graph" else NotServed(choice.reason)
        if isinstance(served, NotServed) and self._asked_engine == "graph":
            raise cannot_answer(served)
        return served

    def _room(self, served: EngineRequest) -> int:
        """Tokens that a prompt may have."""
        return int(self.max_length) - served.sampling.max_new_tokens

    def _chosen(self, stop_ids: tuple[int, ...]) -> EngineChoice:
        """The engine with these stop tokens; one is kept, since it may hold a copy of the model."""
        if self._choice is None or self._choice_stops != stop_ids:
            self._choice = None
            self._choice = choose_engine(self._asked_engine, self.model, self.tokenizer, stop_ids)
            self._choice_stops = stop_ids
        return self._choice

    def _by_engine(self, requests: Sequence[Instance], served: EngineRequest) -> list[str]:
        choice = self._chosen(served.stop_ids)
        self._tell(EngineUse("graph", choice.reason, self.slots))
        texts = [request.args[0] for request in requests]
        # the longest first, as lm-eval does: the caches made for them fit all others
        order = sorted(range(len(texts)), key=lambda n: (-len(self.tok_encode(texts[n])), texts[n]))
        replies: dict[int, CountedReply] = {}
        for start in range(0, len(order), self.slots):
            numbers = order[start : start + self.slots]
            prompts = self._prompts([texts[number] for number in numbers], self._room(served))
            written = choice.engine(prompts, 1, served.sampling)
            for number, completion in zip(numbers, written, strict=True):
                replies[number] = served.reply(completion.tokens, self.tokenizer)
                self.cache_hook.add_partial(
                    "generate_until", requests[number].args, replies[number]
                )
        return [replies[number] for number in range(len(texts))]

    @property
    def unreported(self) -> int:
        """Replies of the batch that is being written which are finished, but not told yet."""
        return getattr(self._choice.engine, "finished", 0) if self._choice else 0

    def _prompts(self, texts: list[str], room: int) -> list[list[int]]:
        """Token ids, cut as lm-eval cuts them, without its padding."""
        ids_B_T, seen_B_T = self.tok_batch_encode(
            texts, left_truncate_len=room, truncation=self.truncation
        )
        return [ids[seen.bool()].tolist() for ids, seen in zip(ids_B_T, seen_B_T, strict=True)]

    def _tell(self, use: EngineUse) -> None:
        if self._on_engine is not None:
            self._on_engine(use)

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


def _why_lm_eval(options: Mapping[str, Any]) -> str | None:
    """What lm-eval's own call alone does, of the arguments of `HFLM`; None for nothing."""
    only = ("think_end_token", "mixed_precision_dtype", "parallelize", "device_map", "tp_plan")
    given = [name for name in only if options.get(name)]
    return f"{given[0]} is lm-eval's own" if given else None


class _CountingHook:
    """Pairs replies with their lengths: `HFLM` hands both over in the same order."""

    def __init__(self, hook: CacheHook, lengths: deque[tuple[int, bool]]) -> None:
        self._hook, self._lengths = hook, lengths

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        if attr == "generate_until" and not isinstance(res, CountedReply):
            tokens, truncated = self._lengths.popleft()
            res = CountedReply(res, tokens=tokens, truncated=truncated)
        self._hook.add_partial(attr, req, res)
