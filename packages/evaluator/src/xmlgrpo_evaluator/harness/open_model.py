"""lm-eval's models, loaded, with our errors for the user's mistakes."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from lm_eval.api.model import LM

from xmlgrpo_evaluator.journal import EngineUse
from xmlgrpo_evaluator.models import Model
from xmlgrpo_evaluator.settings import Evaluation, EvaluationSettings
from xmlgrpo_rewards.errors import UserError

DEFAULT_BATCH = 16
"""Replies that transformers' `generate` writes at once, unless the user says otherwise."""


@contextmanager
def loaded(
    evaluation: Evaluation, engine: str, on_engine: Callable[[EngineUse], None]
) -> Iterator[LM]:
    """Load a model behind its lm-eval class; its memory is given back at the end.

    An HF model is asked by `engine`, whatever the settings say; `on_engine` gets what answers.

    Raises:
        UserError: it is not there, cannot be read, or needs a package that is not installed.
    """
    model, settings = evaluation.model, evaluation.settings
    options = {**model.options, **settings.model_args}
    if model.backend == "llama-cpp":
        from xmlgrpo_evaluator.harness.gguf import LlamaCppLM

        lm = LlamaCppLM(model.source, batch_size=settings.batch_size, seed=settings.seed, **options)
        with lm.gguf:
            yield lm
        return
    try:
        if model.backend == "vllm":
            lm = _load_vllm(model, settings, options)
        else:
            lm = _load_hf(model, settings, options, engine, on_engine)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load {model}: {error}") from error
    try:
        yield lm
    finally:
        for name in ("_model", "model", "_choice"):  # the caller may still hold the object
            lm.__dict__.pop(name, None)
        gc.collect()


def _load_hf(
    model: Model,
    settings: EvaluationSettings,
    options: dict[str, Any],
    engine: str,
    on_engine: Callable[[EngineUse], None],
) -> LM:
    import torch

    from xmlgrpo_evaluator.harness.hf import CountedHF

    device = options.pop("device", "cuda" if torch.cuda.is_available() else "cpu")
    return CountedHF(
        pretrained=model.source,
        tokenizer=model.tokenizer,
        revision=model.revision or "main",
        peft=model.adapter,
        engine=engine,
        slots=settings.batch_size if isinstance(settings.batch_size, int) else None,
        on_engine=on_engine,
        batch_size=settings.batch_size or DEFAULT_BATCH,
        device=device,
        **{**options, "use_safetensors": True},  # a pickle can run code
    )


def _load_vllm(model: Model, settings: EvaluationSettings, options: dict[str, Any]) -> LM:
    from lm_eval.api.registry import get_model

    adapter = {"lora_local_path": model.adapter} if model.adapter else {}
    try:
        return get_model("vllm")(
            pretrained=model.source,
            tokenizer=model.tokenizer,
            revision=model.revision,
            batch_size=settings.batch_size or "auto",
            seed=settings.seed,
            **adapter,
            **{**options, "load_format": "safetensors"},
        )
    except ModuleNotFoundError as error:
        raise UserError(f"vllm is not installed ({error}); use --backend hf") from None


def training_tokenizer(evaluation: Evaluation) -> Any | None:
    """The tokenizer that prompts are compared with; None where they are meant to be other ones.

    For a GGUF of unknown origin there is none either.
    """
    model, settings = evaluation.model, evaluation.settings
    shots = settings.harness.get("num_fewshot")
    if shots or not settings.chat_template or settings.harness.get("system_instruction"):
        return None
    place = model.tokenizer or (None if model.backend == "llama-cpp" else model.source)
    return None if place is None else _tokenizer(place, model.revision or "main")


@cache  # Gemma's takes seconds to read, and base and tuned compare with the same
def _tokenizer(place: str, revision: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(place, revision=revision)


def bos_of(model: Any) -> int | None:
    """Id of the BOS of an lm-eval model; None without one."""
    gguf = getattr(model, "gguf", None)
    if gguf is not None:
        return None if gguf.bos < 0 else int(gguf.bos)
    bos = getattr(getattr(model, "tokenizer", None), "bos_token_id", None)
    return None if bos is None else int(bos)
