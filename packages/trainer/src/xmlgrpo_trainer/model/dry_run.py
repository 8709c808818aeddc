"""The settings tried on what costs nothing, before anything is read, built or loaded.

Which values peft, torch and transformers take is theirs to say.  So the adapter is put on the model
without its weights (on torch's `meta` device), and the optimiser and its schedule are made for one
weight; what a library refuses there it would otherwise refuse minutes later.
"""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import TorchDynamoPlugin
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch.nn import Linear
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, Trainer, get_scheduler
from transformers.utils import is_liger_kernel_available
from trl import GRPOConfig

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import model_source
from xmlgrpo_trainer.config.library_fields import TIED_MODULES, tiny_settings
from xmlgrpo_trainer.config.run_config import TINY, ModelConfig, RunConfig, check_context
from xmlgrpo_trainer.model.load import (
    Placement,
    check_model_folder,
    load_failure,
    lora_fields,
    refusals,
)
from xmlgrpo_trainer.model.reference import check_frozen
from xmlgrpo_trainer.plan.gpus import GIB, machine_gib
from xmlgrpo_trainer.plan.shapes import ModelShape


def dry_run(config: RunConfig, placement: Placement, arguments: GRPOConfig) -> None:
    """Try the settings of a run.  With Unsloth, which attaches an adapter of its own, only trl's.

    Raises:
        UserError: a library refuses one, the model is missing, texts do not fit into its context,
            or the reference of the KL term would be trained.
    """
    try_arguments(config, placement.device, arguments)
    if placement.backend == "plain":
        model = try_model(config, model_config(config.model), placement.dtype, arguments)
        if model is not None and not config.model.load_in_4bit:
            _check_memory(model, placement.device)


def try_arguments(config: RunConfig, device: str, arguments: GRPOConfig) -> None:
    """Try what needs no model.

    Raises:
        UserError: trl, torch or the optimiser refuses a setting, or it cannot be had here.
    """
    _try_arguments(arguments)
    _try_optimizer(arguments)
    attention = config.model.attn_implementation
    if attention == "flex_attention" and device == "cpu":
        raise UserError(
            f"model.attn_implementation: {attention} has no backward pass on a CPU; leave it out"
        )


def try_model(
    config: RunConfig, described: PretrainedConfig, dtype: str, arguments: GRPOConfig
) -> Any | None:
    """Make the model without weights, put the adapter on it, and look at what that is.

    Args:
        described: the model's configuration.
        dtype: of its weights, torch's name.

    Returns:
        The model; None where it cannot be made without weights.

    Raises:
        UserError: transformers or peft refuses a setting, texts do not fit into its context, or the
            reference of the KL term would be trained.
    """
    text_config = described.get_text_config()
    check_context(config, text_config.max_position_embeddings)
    if arguments.router_aux_loss_coef and not hasattr(text_config, "output_router_logits"):
        raise UserError(  # trl says so when it has the model
            "grpo.router_aux_loss_coef: expected a model with experts and a router, got "
            f"{described.model_type}; leave it out"
        )
    model = None
    with suppress(NotImplementedError):  # without weights torch knows not every operation
        with (
            refusals("model: transformers", but=NotImplementedError),
            torch.device("meta"),
        ):
            model = AutoModelForCausalLM.from_config(
                described,
                attn_implementation=config.model.attn_implementation,
                dtype=getattr(torch, dtype),
            )
        check_frozen(_adapted(config.lora, model), arguments.beta)
    return model


def model_config(model: ModelConfig) -> PretrainedConfig:
    """The model's configuration, without its weights: a few kilobytes, from the Hub if need be."""
    if model.name == TINY:
        from xmlgrpo_trainer.tiny.model import text_config

        return text_config(tiny_settings(model.tiny))
    source = model_source(model.name)
    check_model_folder(source)
    try:
        return AutoConfig.from_pretrained(source, revision=model.revision, trust_remote_code=False)
    except Exception as error:  # a broken folder fails in many libraries' own ways
        raise UserError(load_failure(model.name, error)) from error


def model_config_by_shape(model: ModelConfig, shape: ModelShape) -> PretrainedConfig:
    """The model's configuration as `model_config` has it; of one on the Hub, made of its shape."""
    if model.name == TINY or Path(model_source(model.name)).is_dir():
        return model_config(model)
    with suppress(Exception):  # not in the Hub's cache, or only half: its shape is known anyway
        return AutoConfig.from_pretrained(
            model.name, revision=model.revision, local_files_only=True, trust_remote_code=False
        )
    sizes = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.mlp,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": shape.tied,
    }
    if shape.vision:
        return AutoConfig.for_model("gemma3", text_config=sizes)
    by_form = {shape.biased: "qwen2", shape.head_norms: "qwen3", shape.gemma: "gemma3_text"}
    return AutoConfig.for_model(by_form.get(True, "llama"), **sizes)


def _check_memory(model: Any, device: str) -> None:
    """See that the weights alone fit into the memory; what training needs more, a plan says."""
    weights_gib = sum(p.numel() * p.element_size() for p in model.parameters()) / GIB
    there_gib = machine_gib()
    if device == "cuda":
        there_gib = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / GIB
    if weights_gib > there_gib:
        raise UserError(
            f"the model's weights alone take {weights_gib:,.0f} GiB, and this "
            f"{'GPU' if device == 'cuda' else 'machine'} has {there_gib:.0f} GiB; take a smaller "
            "model (make plan says what fits)"
        )


def _adapted(lora: dict[str, Any], model: Any) -> PeftModel:
    """Put the adapter on the model without weights."""
    linear = sorted(
        {name.rpartition(".")[2] for name, part in model.named_modules() if type(part) is Linear}
        - set(TIED_MODULES)
    )
    # before peft, which names no module that there is
    _check_targets(lora, [name for name, _ in model.named_modules()], linear)
    with (
        refusals("lora: peft", but=NotImplementedError),
        warnings.catch_warnings(record=True) as warned,
        torch.device("meta"),
    ):
        warnings.simplefilter("always")
        adapted = PeftModel(model, LoraConfig(**lora_fields(lora, model)))
    for warning in warned:
        words = str(warning.message)
        # what peft warns of is a setting that does nothing; `check_lora` has looked at tied weights
        if "/peft/" in warning.filename and "tie_word_embeddings" not in words:
            raise UserError(f"lora: peft would go on with these settings, but: {words}")
    _check_met(lora, adapted, linear)
    _check_ranks(adapted)
    return adapted


def _check_met(lora: dict[str, Any], adapted: PeftModel, linear: list[str]) -> None:
    """See that every module and layer that was named is there: peft is content with one of them."""
    names = adapted.base_model.targeted_module_names
    _check_targets(lora, names, linear)
    layers = lora.get("layers_to_transform")
    numbers = layers if isinstance(layers, list) else [] if layers is None else [layers]
    missing = [n for n in numbers if not any(f".{n}." in name for name in names)]
    if missing:
        raise UserError(
            f"lora.layers_to_transform: no adapted module of this model is in a layer "
            f"{' or '.join(map(str, missing))}"
        )


def _check_targets(lora: dict[str, Any], names: Sequence[str], linear: list[str]) -> None:
    targets = lora.get("target_modules")
    listed = targets if isinstance(targets, list) else []
    unmet = [word for word in listed if not any(f".{name}".endswith(f".{word}") for name in names)]
    if unmet:
        raise UserError(
            f"lora.target_modules: no module of this model is named "
            f"{' or '.join(map(repr, unmet))}; its linear modules are {', '.join(linear)}"
        )


def _check_ranks(adapted: PeftModel) -> None:
    """See that no rank is beyond that of every matrix: it would cost memory and add nothing."""
    ranks = {}
    largest = 0
    for name, part in adapted.named_modules():
        if isinstance(part, LoraLayer) and "default" in part.r:
            ranks[name] = part.r["default"]
            largest = max(largest, min(part.in_features, part.out_features))
    for name, rank in ranks.items():
        if rank > largest:
            raise UserError(
                f"lora.r: expected at most {largest}, the rank of the largest matrix that is "
                f"adapted, got {rank} for {name.removeprefix('base_model.model.')}"
            )


def _try_arguments(arguments: GRPOConfig) -> None:
    """Ask for what trl and transformers look at only when the model is there."""
    if arguments.use_liger_kernel and not is_liger_kernel_available():
        raise UserError(
            "grpo.use_liger_kernel is true, but liger-kernel is not installed: "
            ".venv/bin/pip install liger-kernel, or leave it out"
        ) from ModuleNotFoundError("liger_kernel")
    if getattr(arguments.accelerator_config, "dispatch_batches", None):
        raise UserError(
            "grpo.accelerator_config: dispatch_batches divides tensors, but a batch of problems "
            "holds texts; leave it out"
        )
    with refusals("grpo: torch"):
        DataLoader(
            TensorDataset(torch.zeros(1)),
            num_workers=arguments.dataloader_num_workers,
            persistent_workers=arguments.dataloader_persistent_workers,
            prefetch_factor=arguments.dataloader_prefetch_factor,
            multiprocessing_context=arguments.dataloader_multiprocessing_context,
        )
    with refusals("grpo: trl"):
        arguments.get_process_log_level()
        if arguments.torch_compile:
            backend = TorchDynamoPlugin(backend=arguments.torch_compile_backend).backend
            if backend == "INDUCTOR":  # the only one with modes
                torch.compile(torch.neg, mode=arguments.torch_compile_mode)
        if arguments.gradient_checkpointing:
            options = {"use_reentrant": False, **(arguments.gradient_checkpointing_kwargs or {})}
            checkpoint(torch.neg, torch.zeros(1, requires_grad=True), **options)


def _try_optimizer(arguments: GRPOConfig) -> None:
    """Make the optimiser and its schedule for one weight, unless it is made of the model."""
    one = Linear(1, 1, bias=False)
    if arguments.optim_target_modules is not None:
        with suppress(ValueError), refusals("grpo: the optimiser", but=ValueError):
            Trainer.get_optimizer_cls_and_kwargs(arguments, one)  # `one` has none of these modules
        return
    steps = max(arguments.max_steps, 1)
    with refusals("grpo: the optimiser"):
        kind, fields = Trainer.get_optimizer_cls_and_kwargs(arguments, one)
        if "model" in fields:
            return
        optimizer = kind(one.parameters(), **fields)
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=arguments.get_warmup_steps(steps),
            num_training_steps=steps,
            scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
        )
    _check_optimizer_words(arguments, one, fields)


def _check_optimizer_words(arguments: GRPOConfig, one: Linear, fields: dict[str, Any]) -> None:
    """See that the optimiser reads each of `optim_args`; it passes over those it does not know."""
    words = [word.strip() for word in (arguments.optim_args or "").split(",") if word.strip()]
    for word in words:
        others = ",".join(other for other in words if other != word)
        without = copy(arguments)
        without.optim_args = others
        if Trainer.get_optimizer_cls_and_kwargs(without, one)[1] == fields:
            raise UserError(
                f"grpo.optim_args: {arguments.optim.value} reads no {word!r}, or has it so anyway; "
                "leave it out"
            )
