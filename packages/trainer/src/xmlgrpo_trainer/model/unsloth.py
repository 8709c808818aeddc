"""The Unsloth backend: its import, its loader, and trl's arguments under its class.

The facts about Unsloth were read in its releases 2026.10.7 and 2026.10.9.
"""

import dataclasses
import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.defaults import LORA_DEFAULTS
from xmlgrpo_trainer.config.run_config import RunConfig, reply_limit

BEFORE = ("trl", "transformers", "peft")
CHECKPOINTING = "unsloth"  # each layer's input waits in the main memory, not the GPU's
SETTINGS = {
    # Its defaults compile for minutes before the first step; these two start in seconds.
    "UNSLOTH_ENABLE_FLEX_ATTENTION": "0",
    "UNSLOTH_COMPILE_DISABLE": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",  # else every load of a model is reported to the Hub
}


def import_unsloth(written: Path) -> None:
    """Import Unsloth, before anything that it patches; a variable that the user has set stays.

    Args:
        written: where the Python files go that it writes for itself.  They depend on the libraries'
            versions, so no two runs should share them.

    Raises:
        UserError: too late, or Unsloth cannot run here.
    """
    late = [module for module in BEFORE if module in sys.modules]
    if late:
        raise UserError(
            f"unsloth must be imported before {', '.join(late)}, which are loaded already; start "
            "a new process with .venv/bin/xmlgrpo-train"
        )
    for name, value in {**SETTINGS, "UNSLOTH_COMPILE_LOCATION": str(written.resolve())}.items():
        os.environ.setdefault(name, value)
    try:
        import unsloth  # noqa: F401  # its import patches trl, transformers and peft
    except (ImportError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"unsloth {version('unsloth')} cannot be used here: {error}. Set model.backend=plain"
        ) from None


def load(config: RunConfig, base: str, dtype: str, arguments: Any) -> tuple[Any, Any]:
    """Load a model with a fresh adapter, and its tokenizer.

    With vLLM in this process it is vLLM that loads the model, and it shares its frozen weights with
    the training (`fast_inference`); trl's rollout finds and uses it.
    """
    import torch
    from unsloth import FastModel

    # decided here, and not by trl's own argument
    mode = CHECKPOINTING if arguments.gradient_checkpointing else False
    lora = {**LORA_DEFAULTS, "bias": "none", **config.lora}
    share = vllm_share(config, arguments)
    vllm: dict[str, Any] = {}
    if share is not None:
        vllm = {
            "fast_inference": True,
            "gpu_memory_utilization": share,
            "max_lora_rank": lora["r"],
        }
    model, processor = FastModel.from_pretrained(
        model_name=base,
        revision=config.model.revision,
        # else a name of Google's is replaced by that of Unsloth's copy, and the revision is lost
        use_exact_model_name=True,
        max_seq_length=config.data.max_prompt_tokens + reply_limit(config),
        load_in_4bit=config.model.load_in_4bit,
        load_in_16bit=not config.model.load_in_4bit,
        dtype=getattr(torch, dtype),
        full_finetuning=False,
        use_gradient_checkpointing=mode,
        use_safetensors=True,
        **vllm,
    )
    if vllm and not hasattr(model, "vllm_engine"):
        raise RuntimeError(
            "Unsloth started no vLLM for it, for the reason that it printed; set rollout=auto"
        )
    model = FastModel.get_peft_model(
        model,
        finetune_vision_layers=False,
        finetune_language_layers=True,
        finetune_attention_modules=True,
        finetune_mlp_modules=True,
        use_gradient_checkpointing=mode,
        random_state=config.seed,
        **lora,
    )
    restore_after_generate(model, mode)
    tokenizer = getattr(processor, "tokenizer", processor)
    tokenizer.padding_side = "left"
    return model, tokenizer


def vllm_share(config: RunConfig, arguments: Any) -> float | None:
    """The share of the GPU's memory for vLLM in this process; None where there is none."""
    if config.rollout != "vllm" or arguments.vllm_mode != "colocate":
        return None
    return float(arguments.vllm_gpu_memory_utilization)


def check_shared_vllm(config: RunConfig, arguments: Any) -> None:
    """Refuse a pinned revision and a sleeping engine, where vLLM shares Unsloth's weights.

    Raises:
        UserError: one of them was asked for.
    """
    if vllm_share(config, arguments) is None:
        return
    revision = config.model.revision
    if revision is not None:
        raise UserError(
            f"model.revision is {revision!r}, but in Unsloth vLLM loads the weights, which takes "
            "the newest: give a folder with that revision as model.name, or set model.backend=plain"
        )
    if arguments.vllm_enable_sleep_mode and os.environ.get("UNSLOTH_VLLM_STANDBY", "0") == "0":
        raise UserError(
            "grpo.vllm_enable_sleep_mode: Unsloth's vLLM sleeps only where the environment has "
            "UNSLOTH_VLLM_STANDBY=1; set it, or leave the field out"
        )


def restore_after_generate(model: Any, mode: Any) -> None:
    """Have `model.generate` leave the model ready to be trained, in evaluation mode.

    Unsloth's `generate` switches checkpointing off for good: trl's way of calling it switches it on
    again afterwards, any other call would have the next step keep every activation.
    """
    generate = model.generate

    def restoring(*args: Any, **options: Any) -> Any:
        try:
            return generate(*args, **options)
        finally:
            model.for_training(use_gradient_checkpointing=mode)
            model.eval()

    model.generate = restoring


def trl_arguments(config_class: type, fields: Mapping[str, Any]) -> Any:
    """Make `trl.GRPOConfig`'s values, whichever class has its name.

    Unsloth's subclass has defaults of its own (8-bit AdamW, weight decay, a warm-up, two
    accumulation steps, ...) and overrides what was set (`loss_type: dapo` also masks truncated
    completions and raises `epsilon_high`), and the backend must not decide what is trained.  So
    trl's own class makes the values, and Unsloth's is given them after it has made its own.

    Args:
        config_class: what `trl.GRPOConfig` is now.
    """
    own: type = [base for base in config_class.__mro__ if base.__name__ == "GRPOConfig"][-1]
    if own is config_class:
        return own(**fields)
    names = {field.name for field in dataclasses.fields(own)}
    values = own(**{name: value for name, value in fields.items() if name in names})
    arguments = config_class(**fields)
    # the checkpoints of activations that Unsloth patches in are of the reentrant kind
    for name in names - {"gradient_checkpointing_kwargs"}:
        setattr(arguments, name, getattr(values, name))
    return arguments
