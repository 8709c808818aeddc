"""A transformers model, bare or with an adapter, that is asked."""

import warnings
from typing import Any

import torch
from transformers import GenerationConfig

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.stop_tokens import cut_after_stop, stop_ids
from xmlgrpo_run.checkout import is_installed
from xmlgrpo_trainer.ask.chat import OnTokens, ReplySettings, TokenizerChat
from xmlgrpo_trainer.ask.source import Source
from xmlgrpo_trainer.config.run_config import ModelConfig, RunConfig
from xmlgrpo_trainer.model.load import choose_placement, load_policy


def transformers_chat(source: Source) -> TokenizerChat:
    """Load a model that answers with transformers' `generate`.

    Raises:
        UserError: the model cannot be loaded, or the adapter does not fit it.
    """
    # without a GPU an adapter that was trained over 4-bit weights is asked over whole ones
    four_bit = source.quantized and torch.cuda.is_available() and is_installed("bitsandbytes")
    loading = ModelConfig(
        name=source.name, revision=source.revision, backend="plain", load_in_4bit=four_bit
    )
    policy = load_policy(RunConfig(model=loading), source.name, choose_placement(loading))
    model = policy.model if source.adapter is None else _adapted(policy.model, source)
    model.eval()
    stops = stop_ids(model, policy.tokenizer)

    def draw(prompt: list[int], settings: ReplySettings, on_tokens: OnTokens) -> list[int]:
        prompt_1_T = torch.tensor([prompt], device=model.device)
        greedy = settings.temperature == 0
        with torch.no_grad():
            written_1_T = model.generate(
                input_ids=prompt_1_T,
                attention_mask=torch.ones_like(prompt_1_T),
                generation_config=GenerationConfig(
                    max_new_tokens=settings.max_new_tokens,
                    do_sample=not greedy,
                    # unused when greedy, but other values than these would be warned about
                    temperature=1.0 if greedy else settings.temperature,
                    top_k=50 if greedy else 0,
                    eos_token_id=stops,
                    pad_token_id=policy.tokenizer.pad_token_id,
                ),
                streamer=_Streamer(on_tokens),
            )
        return cut_after_stop(written_1_T[0, len(prompt) :].tolist(), stops)

    context = model.config.get_text_config().max_position_embeddings
    return TokenizerChat(policy.tokenizer, context, stops, draw)


def _adapted(model: Any, source: Source) -> Any:
    from peft import PeftModel

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            adapted = PeftModel.from_pretrained(model, str(source.adapter))
        except Exception as error:  # a broken file fails in many libraries' own ways
            raise _unfit(source, str(error)) from error
    # peft only warns of weights that the file lacks; the adapter would be another one
    for one in warned:
        if "missing adapter keys" in str(one.message):
            raise _unfit(source, str(one.message))
    return adapted


def _unfit(source: Source, reason: str) -> UserError:
    [first, *_] = reason.strip().splitlines() or ["no reason was given"]
    return UserError(
        f"the adapter {str(source.adapter)!r} is broken or does not fit the model "
        f"{source.name!r}: {first[:300]}"
    )


class _Streamer:
    """The two calls that transformers' `generate` makes of a streamer; the prompt is the first."""

    def __init__(self, on_tokens: OnTokens) -> None:
        self._on_tokens = on_tokens
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self._prompt_seen:
            self._on_tokens(value.flatten().tolist())
        self._prompt_seen = True

    def end(self) -> None:
        pass
