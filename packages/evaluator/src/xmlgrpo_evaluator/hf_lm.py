"""lm-eval's own `hf` model, with what it keeps to itself: how long each reply was.

Everything else is lm-eval's: batching, left padding, stop strings, devices.  One thing is mended:
with an adapter, lm-eval resizes the embedding table to the length of the tokenizer, which for
Gemma 3 differs from the table's by the image tokens, and so evaluates another model.
"""

from collections import deque
from typing import Any

import lm_eval.models  # noqa: F401  # before ours: lm-eval fills its registry only while empty
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM

from xmlgrpo_evaluator.replies import CountedReply


class CountedHF(HFLM):  # type: ignore[misc]  # lm-eval is untyped
    """`HFLM` whose replies are `CountedReply`, where they are handed to the cache hook."""

    def __init__(self, **options: Any) -> None:
        self._lengths: deque[tuple[int, bool]] = deque()
        super().__init__(**options)

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
        if attr == "generate_until":
            tokens, truncated = self._lengths.popleft()
            res = CountedReply(res, tokens=tokens, truncated=truncated)
        self._hook.add_partial(attr, req, res)
