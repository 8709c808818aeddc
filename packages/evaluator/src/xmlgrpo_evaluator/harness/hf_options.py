"""From lm-eval's generation options to what an engine of xmlgrpo_rollout takes.

What is not in the options is the model's generation config's and then transformers' default, as in
the call that lm-eval's `hf` makes.  An engine stops at tokens.  So a stop string that is one token
ends a reply there; any other is cut off afterwards, as lm-eval cuts its own batches, whose replies
also grow on until the last one has ended.  The text is that of lm-eval with one reply at a time.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from transformers import GenerationConfig

from xmlgrpo_evaluator.journal import CountedReply
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.engine import Sampling

SAMPLING = frozenset({"do_sample", "temperature", "top_k", "top_p", "min_p"})
DECIDES_NO_TOKEN = frozenset(
    {"max_length", "use_cache", "cache_implementation", "cache_config", "max_cache_len"}
    | {"compile_config", "disable_compile", "prefill_chunk_size", "transformers_version"}
    | {"eos_token_id", "pad_token_id", "bos_token_id", "_from_model_config"}
    | {"output_attentions", "output_hidden_states"}  # false in what a model's config turns into
)
"""Fields of a model's generation config that change no reply, or that are read apart."""


class NotServedError(Exception):
    """Why lm-eval's own call answers; in words that go behind a colon."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What one set of generation options asks of an engine."""

    sampling: Sampling
    stop_ids: tuple[int, ...]  # the tokens that end a reply
    until: tuple[str, ...]  # the strings that are cut off a reply's text, with what follows

    def reply(self, tokens: Sequence[int], tokenizer: Any) -> CountedReply:
        """The reply that these tokens are; one that a stop string ended is as long as up to it."""

        def text_of(count: int) -> str:
            return str(tokenizer.decode(tokens[:count], skip_special_tokens=True))

        def is_stopped(count: int) -> bool:
            text = text_of(count)
            return any(string and string in text for string in self.until)

        if not is_stopped(len(tokens)):
            ended = bool(tokens) and tokens[-1] in self.stop_ids
            return CountedReply(text_of(len(tokens)), tokens=len(tokens), truncated=not ended)
        count = bisect_left(range(len(tokens)), x=True, key=is_stopped)
        text = postprocess_generated_text(text_of(count), list(self.until), think_end_token=None)
        return CountedReply(text, tokens=count, truncated=False)


def read_options(
    options: Mapping[str, Any], model_config: GenerationConfig, tokenizer: Any, default_limit: int
) -> EngineRequest:
    """Read lm-eval's generation options; the model's own config fills what they leave open.

    Raises:
        NotServedError: the engine cannot do this.
    """
    asked = _normalized(options, default_limit)
    end = tokenizer.decode(tokenizer.eos_token_id, skip_special_tokens=False)
    until = handle_stop_sequences(asked.pop("until"), eos=end)
    limit = asked.pop("max_gen_toks")
    # a name that transformers does not know decides nothing in a model's config
    known = GenerationConfig().to_dict()
    own = {n: v for n, v in model_config.to_dict().items() if v is not None and n in known}
    config = {**_defaults(), **own, **asked}
    sampling = _sampling(config, asked, limit)
    ends = config["eos_token_id"]
    stops = {ends} if isinstance(ends, int) else set(ends or ())
    for string in filter(None, until):
        ids = tokenizer.encode(string, add_special_tokens=False)
        if len(ids) == 1 and string in tokenizer.decode(ids):
            stops.add(ids[0])
        elif any(token in string for token in tokenizer.all_special_tokens):
            raise NotServedError(f"the stop string {string!r} joins a special token with others")
    return EngineRequest(sampling, tuple(sorted(stops)), tuple(until))


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what the engine can serve with no model, before one is loaded.

    Raises:
        UserError: they choose tokens in a way that the engine does not know.
    """
    asked = _normalized(options, default_limit=1)
    limit = asked.pop("max_gen_toks")
    del asked["until"]  # a matter of the tokenizer
    try:
        _sampling({**_defaults(), **asked}, asked, limit)
    except NotServedError as reason:
        raise cannot_answer(reason) from None


def cannot_answer(reason: NotServedError) -> UserError:
    """The error where `--engine graph` was asked for."""
    return UserError(f"--engine graph cannot answer: {reason}; use --engine auto or generate")


def _normalized(options: Mapping[str, Any], default_limit: int) -> dict[str, Any]:
    """The options under one name each; `do_sample`, `until` and `max_gen_toks` are there."""
    asked = dict(normalize_gen_kwargs(dict(options), default_limit))
    if asked["do_sample"]:
        asked.setdefault("temperature", 0.0)  # as `hf` does; transformers refuses it
    return asked


def _defaults() -> dict[str, Any]:
    """Every field with the value that transformers takes where nobody gives one."""
    default = GenerationConfig._get_default_generation_params()  # noqa: SLF001  # has no public name
    return {**GenerationConfig().to_dict(), **default}


def _sampling(config: Mapping[str, Any], asked: Mapping[str, Any], limit: int) -> Sampling:
    """How tokens are chosen by a whole config, of which a request gave what is `asked`."""
    defaults, missing = _defaults(), object()
    foreign = [
        f"{name}={value!r}"
        for name, value in sorted(config.items())
        if name not in SAMPLING
        and (name not in DECIDES_NO_TOKEN or name in asked)
        and value != defaults.get(name, missing)
    ]
    if foreign:
        raise NotServedError(f"the graph engine does not know {', '.join(foreign)}")
    if not config["do_sample"]:
        return Sampling(limit, temperature=0.0)
    if not config["temperature"]:
        raise NotServedError("it samples at temperature 0")
    try:
        return Sampling(
            limit,
            temperature=float(config["temperature"]),
            top_p=1.0 if config["top_p"] is None else float(config["top_p"]),
            top_k=int(config["top_k"] or 0),
            min_p=float(config["min_p"] or 0.0),
        )
    except UserError as error:  # lm-eval and transformers say what they make of it
        raise NotServedError(str(error)) from None
