"""Which models the engines read, and what they look at of transformers' and peft's parts."""

from typing import Any

import torch
from torch import Tensor, nn

READABLE = ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration")
ROPES = ("default", "linear")  # Gemma 3's own; others may change with the length


def base_model(model: nn.Module) -> Any:
    """The transformers model inside a peft one, or the model itself."""
    unwrap = getattr(model, "get_base_model", None)
    return model if unwrap is None else unwrap()


def text_decoder(base: Any) -> Any:
    """The layers that read and write text; Gemma 3 from 4B up has a vision tower beside them."""
    return getattr(base.model, "language_model", base.model)


def text_device(model: nn.Module) -> torch.device:
    """Where the text model is."""
    device: torch.device = text_decoder(base_model(model)).embed_tokens.weight.device
    return device


def why_not_read(model: nn.Module) -> str | None:
    """Why `read_weights` cannot read this model, in words for the user; None when it can."""
    base = base_model(model)
    if type(base).__name__ not in READABLE:
        return f"it reads {' and '.join(READABLE)}, not {type(base).__name__}"
    config = base.config.get_text_config()
    if config.attn_logit_softcapping or config.final_logit_softcapping or config.attention_bias:
        return "it knows no soft-capping and no attention bias, which this model has"
    if config.hidden_activation != "gelu_pytorch_tanh" or config.use_bidirectional_attention:
        return "it knows only Gemma's own activation and causal attention"
    if any(config.rope_parameters[kind]["rope_type"] not in ROPES for kind in config.layer_types):
        return f"it knows only these rotary embeddings: {', '.join(ROPES)}"
    return _why_no_adapter(model) or _first_reason(base)


def _why_no_adapter(model: nn.Module) -> str | None:
    """Why peft's own wrapper says no: not every kind of adapter lies in modules."""
    configs: dict[str, Any] = getattr(model, "peft_config", {})
    kinds = [config.peft_type.value for config in configs.values() if config.peft_type != "LORA"]
    return f"it merges plain LoRA only, and this model has a {kinds[0]} adapter" if kinds else None


def _first_reason(base: Any) -> str | None:
    modules = {**dict(text_decoder(base).named_modules()), "lm_head": base.lm_head}
    reasons = (_why_not_merged(name, module) for name, module in modules.items())
    return next((reason for reason in reasons if reason is not None), None)


def _why_not_merged(name: str, module: Any) -> str | None:
    if type(module).__name__ == "ModulesToSaveWrapper":
        return f"{name} is trained in full beside the adapter (modules_to_save)"
    linear = getattr(module, "base_layer", module)
    if isinstance(linear, nn.Linear) and not _is_readable(linear.weight):
        return f"{name} is quantized in a way it does not know"
    if linear is module:
        return None
    if name == "lm_head":
        return "lm_head has an adapter, which the embedding that it is tied to has not"
    if is_plain_lora(module):
        return None
    return f"it merges plain LoRA only, and {name} has another adapter"


def is_plain_lora(module: Any) -> bool:
    """Whether a module is a projection whose adapters are W + s B A and no more."""
    return (
        isinstance(getattr(module, "base_layer", None), nn.Linear)
        and hasattr(module, "lora_A")
        and not module.lora_variant  # DoRA and its like
        and not any(module.lora_bias.values())
    )


def has_packed_weights(model: nn.Module) -> bool:
    """Whether the base was loaded in 4 bits."""
    weights = (p for p in text_decoder(base_model(model)).parameters() if not p.requires_grad)
    return any(hasattr(weight, "quant_state") for weight in weights)


def _is_readable(weight: Tensor) -> bool:
    return weight.is_floating_point() or hasattr(weight, "quant_state")


def unpacked(weight: Tensor) -> Tensor:
    """The weight itself, or what bitsandbytes' 4 bits stand for (QLoRA, arXiv 2305.14314)."""
    if weight.is_floating_point():
        return weight
    from bitsandbytes.functional import dequantize_4bit

    full: Tensor = dequantize_4bit(weight.data, weight.quant_state)  # type: ignore[attr-defined]  # bitsandbytes' Params4bit has it
    return full
