"""Which engine draws a run's completions, decided from what is known before any weight is loaded.

`name_engine` decides, for a plan and for a run.  A plan asks it with what configurations alone say
(`why_not_described`, `why_not_merged`); a run with `choice.why_not_read`, which asks both and then
looks at the modules.  Imports no library.
"""

from collections.abc import Mapping
from typing import Any, Literal

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.recipe import ACTIVATIONS, FAMILIES, FULL, SLIDING, activation_of

EngineName = Literal["generate", "graph", "vllm"]
ENGINE_NAMES = ("auto", "generate", "graph", "vllm")

# the models that `graph` reads: transformers' model type -> the class that it loads for text
READABLE = {
    **{kind: family.model_class for kind, family in FAMILIES.items()},
    "gemma3": "Gemma3ForConditionalGeneration",
}
# what turns a place by the same angles at every length; the others change with the length
ROPES = {"default", "linear", "llama3", "yarn"}
# fields of `peft.LoraConfig` that make an adapter more than W + s B A, where they hold anything
NOT_PLAIN = (
    *("use_dora", "velora_config", "alora_invocation_tokens", "use_qalora", "monteclora_config"),
    *("use_bdlora", "arrow_config", "kasa_config", "lora_bias", "target_parameters"),
    *("trainable_token_indices", "layer_replication"),
)


def name_engine(
    asked: str, obstacle: str | None, *, packed: bool, on_gpu: bool, int8: bool = False
) -> tuple[EngineName, str]:
    """Decide which engine draws the completions; and why, in a few words.

    Args:
        asked: "auto", or the engine that is asked for.
        obstacle: why `graph` cannot serve the model; None when it can.
        packed: the base is in 4 bits.
        on_gpu: the model is on one.
        int8: training's weights are asked for in 8 bits, which `graph` alone has.

    Raises:
        UserError: no such engine, or `graph` is asked for and cannot serve.
    """
    if asked not in ENGINE_NAMES:
        raise UserError(f"rollout: expected one of {', '.join(ENGINE_NAMES)}, got {asked!r}")
    other = f"rollout is {asked!r}" if asked in {"generate", "vllm"} else None
    copied = "graph would hold a 16-bit copy of the 4-bit weights; ask for it if that fits"
    costly = copied if asked == "auto" and packed else None
    if int8 and (reasons := joined_reasons(other, obstacle, costly)):
        also = "" if obstacle else ", or set rollout to 'graph'"
        raise UserError(
            f"rollout_weights 'int8' needs the engine graph, which is not taken: {reasons}. "
            f"Leave rollout_weights out{also}"
        )
    obstacle = joined_reasons(obstacle, costly)
    if asked == "vllm":
        return "vllm", "asked for; held-out replies by generate"
    if asked == "graph" and obstacle:
        raise UserError(
            f"rollout 'graph' cannot serve this model: {obstacle}. Set rollout to 'generate' or "
            "'auto', or so an evaluation's --engine"
        )
    if asked == "generate" or obstacle:
        return "generate", "asked for" if asked == "generate" else str(obstacle)
    reads = f"it reads this model, on the {'GPU' if on_gpu else 'CPU'}"
    return "graph", "asked for" if asked == "graph" else reads


def why_not_described(model: Mapping[str, Any]) -> str | None:
    """Why `graph` cannot read a model, by its configuration alone; None when nothing is against it.

    Args:
        model: what transformers' `config.json` holds, in its present or an older form.
    """
    kind = str(model.get("model_type"))
    if kind not in READABLE:
        classes = model.get("architectures")
        name = classes[0] if isinstance(classes, list) and classes else f"the type {kind!r}"
        return not_readable(name)
    text = _part(model, "text_config") or model
    activation, kinds = activation_of(text), _kinds(text) - {FULL, SLIDING}
    is_capped = any(map(text.get, ("attn_logit_softcapping", "final_logit_softcapping")))
    whole = kind not in FAMILIES or not FAMILIES[kind].turns_parts
    is_turned_otherwise = not _ropes(text) <= ROPES or (whole and _turns_a_part(text))
    is_quantized_otherwise = _part(model, "quantization_config") and not is_packed(model)
    ropes = ", ".join(sorted(ROPES))
    reasons = {
        "it knows no soft-capping, which this model has": is_capped,
        "it knows only causal attention": text.get("use_bidirectional_attention"),
        f"it knows the activations {' and '.join(ACTIVATIONS)}, not {activation}": (
            activation not in ACTIVATIONS
        ),
        f"it knows full and sliding attention, not {', '.join(sorted(kinds))}": kinds,
        f"it knows only these rotary embeddings, of whole heads: {ropes}": is_turned_otherwise,
        "the model is quantized in a way it does not know": is_quantized_otherwise,
    }
    return joined_reasons(*(reason for reason, holds in reasons.items() if holds))


def not_readable(name: str) -> str:
    """Why `graph` cannot read a model of a class that it does not know."""
    return f"it has no recipe for {name}; it has one for {', '.join(READABLE)}"


def why_not_merged(adapter: Mapping[str, Any]) -> str | None:
    """Why `graph` cannot merge an adapter, by its configuration alone; None when it can.

    Args:
        adapter: fields of peft's configuration; those that are left out are the defaults.
    """
    kind = getattr(adapter.get("peft_type"), "value", adapter.get("peft_type")) or "LORA"
    if kind != "LORA":
        return f"it merges plain LoRA only, and this model has a {kind} adapter"
    modules = ", ".join(adapter.get("modules_to_save") or ())
    more = [name for name in NOT_PLAIN if adapter.get(name)]
    if adapter.get("init_lora_weights") == "mica":
        more.append("init_lora_weights=mica")
    return joined_reasons(
        f"{modules}: trained in full beside the adapter (modules_to_save)" if modules else None,
        f"it merges plain LoRA only, and this adapter has {', '.join(more)}" if more else None,
    )


def joined_reasons(*reasons: str | None) -> str | None:
    """All that hold, as one; None where none does."""
    return "; ".join(filter(None, reasons)) or None


def is_packed(model: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is of weights that bitsandbytes packed into 4 bits."""
    quantization = _part(model, "quantization_config")
    return bool(quantization.get("load_in_4bit") or quantization.get("_load_in_4bit"))


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name)
    return part if isinstance(part, Mapping) else {}


def _kinds(text: Mapping[str, Any]) -> set[str]:
    kinds = text.get("layer_types")
    return {str(kind) for kind in kinds} if isinstance(kinds, list) else set()


def _ropes(text: Mapping[str, Any]) -> set[str]:
    return {str(rope.get("rope_type") or rope.get("type") or "default") for rope in _rotary(text)}


def _turns_a_part(text: Mapping[str, Any]) -> bool:
    """Whether only some numbers of a head are turned."""
    return any(
        part.get("partial_rotary_factor") not in {None, 1.0} for part in (text, *_rotary(text))
    )


def _rotary(text: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rotary embeddings' parameters; `rope_scaling` is what they were called before."""
    found = [_part(text, "rope_parameters"), _part(text, "rope_scaling")]
    return found + [
        inner for rope in found for inner in rope.values() if isinstance(inner, Mapping)
    ]
