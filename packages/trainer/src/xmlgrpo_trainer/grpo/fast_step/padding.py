"""Texts begin at the left while they are scored and learnt from: then attention needs no mask.

trl pads prompts on the left and completions on the right, so every attention gets a mask, and with
a mask torch has only its slow kernel: at the Gemma 3 1B shape its backward pass took 1.9 ms a layer
(64 texts of 430 tokens, H200), for products worth 0.2 ms.  With all padding behind the text a
causal attention never looks at it, and flash attention (arXiv 2307.08691) can be used; past a
sliding layer's window too, where the GPU has the kernel for it (`window`).
"""

from collections.abc import Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from xmlgrpo_rollout.recipe import FULL, SLIDING
from xmlgrpo_rollout.weights import base_model
from xmlgrpo_trainer.grpo.fast_step.sliding_window import NAME, has_kernel, take_windows

# Bodies that take a mask for each kind of layer, and those that have one for all
BY_KIND = ("Gemma3TextModel", "Gemma3Model", "Qwen2Model", "Qwen3Model", "SmolLM3Model")
ONE_MASK = ("LlamaModel", "MistralModel")


def align_left(model: nn.Module) -> bool:
    """Have a model's body move padding from the left to the right, and its answer back.

    Returns:
        Whether it is of a kind that is known; another stays as it was.
    """
    body = base_model(model).base_model
    config = body.config.get_text_config()
    attention, name = config._attn_implementation, type(body).__name__  # noqa: SLF001 - no public
    is_plain = name in ONE_MASK and not getattr(config, "sliding_window", None)
    if not (is_plain or name in BY_KIND) or attention not in ("sdpa", NAME):
        return False
    if SLIDING in _kinds(config):
        take_windows(config)
    body.forward = MethodType(_forward, body)
    return True


def _forward(
    body: Any,
    *,
    input_ids: Tensor | None = None,
    attention_mask: Any = None,
    use_cache: bool | None = None,
    **named: Any,
) -> Any:
    is_padded = isinstance(attention_mask, Tensor) and attention_mask.dim() == 2
    if named.get("return_dict"):  # the default, which the model with a vision tower names
        del named["return_dict"]
    has_more = any(value is not None for value in named.values())  # of a cache, or of an image
    if input_ids is None or not is_padded or use_cache is not False or has_more:
        return type(body).forward(
            body,
            input_ids=input_ids,
            attention_mask=attention_mask,
            use_cache=use_cache,
            **named,
        )
    there_B_T, back_B_T = places(attention_mask)
    config, length = body.config.get_text_config(), input_ids.shape[1]
    masks: dict[str, Tensor | None] | None = None
    if type(body).__name__ in BY_KIND:
        masks = dict.fromkeys((FULL, SLIDING))
    reads_windows = config._attn_implementation == NAME  # noqa: SLF001 - somebody may change it
    if masks is not None and SLIDING in _kinds(config):
        needs_mask = not reads_windows or not has_kernel(config, input_ids.device, body.dtype)
        masks[SLIDING] = (
            near(length, config.sliding_window, input_ids.device) if needs_mask else None
        )
    output = type(body).forward(
        body, input_ids=input_ids.gather(1, there_B_T), attention_mask=masks, use_cache=False
    )
    hidden_B_T_C = output.last_hidden_state
    output.last_hidden_state = hidden_B_T_C.gather(1, back_B_T[:, :, None].expand_as(hidden_B_T_C))
    return output


def _kinds(config: Any) -> Sequence[str]:
    kinds: Sequence[str] = getattr(config, "layer_types", None) or ()
    return kinds


def places(attention_mask_B_T: Tensor) -> tuple[Tensor, Tensor]:
    """Indices for `gather`, (B, T) each: each row's text to its begin, and back again.

    Args:
        attention_mask_B_T: 0 for padding, at either end of a row.
    """
    length = attention_mask_B_T.shape[1]
    at_T = torch.arange(length, device=attention_mask_B_T.device)
    padding_B_1 = attention_mask_B_T.argmax(dim=1, keepdim=True)  # of equals the first
    return (at_T + padding_B_1) % length, (at_T - padding_B_1) % length


def near(length: int, window: int, device: torch.device) -> Tensor | None:
    """What a sliding layer's tokens see, (1, 1, T, T); None where the window holds all of them."""
    if length <= window:
        return None
    # in place: whole distances of 32,000 tokens would take 8 GiB
    seen_T_T = torch.ones(length, length, dtype=torch.bool, device=device)
    return seen_T_T.tril_().triu_(1 - window)[None, None]
