"""lm-eval's models, opened, with our errors for the user's mistakes."""

import gc
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from lm_eval.api.model import LM

from xmlgrpo_evaluator.setup.engines import EngineUse
from xmlgrpo_evaluator.setup.models import Model
from xmlgrpo_evaluator.setup.settings import Settings
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.screen.hub_log import quiet_retries

DEFAULT_BATCH = 16
"""Replies that transformers' `generate` writes at once, unless the user says otherwise."""


def quieten() -> None:
    """Leave the screen to our own lines; `LMEVAL_LOG_LEVEL` brings lm-eval's back."""
    logging.getLogger("lm_eval").setLevel(os.environ.get("LMEVAL_LOG_LEVEL", "ERROR"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    quiet_retries()
    import datasets
    import transformers
    from lm_eval import evaluator

    # it asks git for a commit that we do not keep, and outside of a checkout git complains
    evaluator.get_git_commit_hash = lambda: None
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


@contextmanager
def opened(
    model: Model, settings: Settings, on_engine: Callable[[EngineUse], None] | None = None
) -> Iterator[LM]:
    """Load a model behind its lm-eval class; its memory is given back at the end.

    Args:
        model: what is loaded.
        settings: how it is asked.
        on_engine: is told which engine answers an HF model's requests, and why.

    Raises:
        UserError: it is not there, cannot be read, or needs a package that is not installed.
    """
    options = {**model.options, **settings.model_args}
    if model.backend == "llama-cpp":
        from xmlgrpo_evaluator.harness.gguf import LlamaCppLM

        gguf = LlamaCppLM(
            model.source, batch_size=settings.batch_size, seed=settings.seed, **options
        )
        try:
            yield gguf
        finally:
            gguf.gguf.close()
        return
    try:
        if model.backend == "vllm":
            loaded = _open_vllm(model, settings, options)
        else:
            loaded = _open_hf(model, settings, options, on_engine)
    except (OSError, ValueError) as error:
        what = f"{model.source} with adapter {model.adapter}" if model.adapter else model.source
        raise UserError(f"cannot load {what}: {error}") from error
    try:
        yield loaded
    finally:
        for name in (
            "_model",
            "model",
            "_choice",
        ):  # the caller may still hold the object around them
            loaded.__dict__.pop(name, None)
        gc.collect()


def _open_hf(
    model: Model,
    settings: Settings,
    options: dict[str, Any],
    on_engine: Callable[[EngineUse], None] | None,
) -> LM:
    import torch

    from xmlgrpo_evaluator.harness.hf import CountedHF

    device = options.pop("device", "cuda" if torch.cuda.is_available() else "cpu")
    return CountedHF(
        pretrained=model.source,
        tokenizer=model.tokenizer,
        revision=model.revision or "main",
        peft=model.adapter,
        engine=settings.engine,
        slots=settings.batch_size if isinstance(settings.batch_size, int) else None,
        on_engine=on_engine,
        batch_size=settings.batch_size or DEFAULT_BATCH,
        device=device,
        **options,
    )


def _open_vllm(model: Model, settings: Settings, options: dict[str, Any]) -> LM:
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
            **options,
        )
    except ModuleNotFoundError as error:
        raise UserError(f"vllm is not installed ({error}); use --backend hf") from None


def training_tokenizer(model: Model) -> Any | None:
    """The tokenizer that prompts are compared with; None for a GGUF of unknown origin."""
    place = model.tokenizer or (None if model.backend == "llama-cpp" else model.source)
    return None if place is None else _tokenizer(place, model.revision or "main")


@cache  # Gemma's takes seconds to read, and every rung of a ladder compares with the same
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
