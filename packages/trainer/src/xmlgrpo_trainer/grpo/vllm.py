"""What trl's rollout by vLLM is given: every stop token, and weights that leave the policy alone.

The facts about trl were read in 1.14.2 (`trl/generation/vllm_generation.py`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.weights import is_plain_lora
from xmlgrpo_run.prompt import Messages, tokenizer_prompt


def check_prompt(tokenizer: Any, chat: Messages) -> None:
    """See that trl, which writes the training prompts for vLLM by itself, writes them as we do.

    Raises:
        UserError: the chat template needs help (`xmlgrpo_run.prompt`), which trl does not give.
    """
    ours = tokenizer_prompt(tokenizer, chat)
    if ours.chat == chat:
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        if text == ours.text:
            return
    raise UserError(
        "rollout is 'vllm', where trl writes the prompts, and this model's chat template has no "
        "system role or does not open the model's turn, so that vLLM would be asked otherwise than "
        "the held-out problems are; set rollout=auto"
    )


def serve_vllm(trainer: Any, stop_ids: Sequence[int]) -> None:
    """Set up trl's vLLM client, which draws the training completions of `trainer`.

    Of itself vLLM stops at the tokenizer's EOS and at those of the folder's
    `generation_config.json`; where that file names one only, replies would run to the limit.
    """
    client = trainer.vllm_generation
    client.generation_kwargs["stop_token_ids"] = list(stop_ids)
    # Unsloth's engine computes with the policy's own tensors: a merged copy would be written there
    shares_weights = getattr(trainer.model, "vllm_engine", None) is not None
    if adapters_are_plain(trainer.model) and not shares_weights:
        client._iter_named_params = lambda: merged_weights(trainer.model)  # noqa: SLF001


def adapters_are_plain(model: nn.Module) -> bool:
    """Whether `merged_weights` can merge every adapter of a peft model: LoRA on 16-bit weights."""
    adapted: list[Any] = [module for module in model.modules() if hasattr(module, "lora_A")]
    return bool(adapted) and all(
        is_plain_lora(module) and module.base_layer.weight.is_floating_point() for module in adapted
    )


@torch.no_grad()
def merged_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The policy's weights under their names in transformers, adapters merged into copies.

    trl merges into the weights themselves and takes the same away again.  In bfloat16 that does
    not give back what was there, so the frozen weights would wander with every step, away from
    those that the adapter is later saved, merged and published for.
    """
    base = model.get_base_model()
    adapted: dict[str, Any] = {
        name: module for name, module in base.named_modules() if hasattr(module, "lora_A")
    }
    for name, weight in base.named_parameters():
        layer, inside, last = name.rpartition(".base_layer.")
        if not inside:
            if ".lora_" not in name:
                yield name, weight.data
            continue
        merged = weight.data
        if last == "weight":
            module = adapted[layer]
            for adapter in module.active_adapters:
                # float32 where the adapter is: rounded once, after the sum
                merged = merged + module.get_delta_weight(adapter)
        yield f"{layer}.{last}", merged.to(weight.dtype)
