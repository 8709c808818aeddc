"""How a decoder computes, read from its configuration: one engine serves every family named here.

The families differ in few places: where norms stand and when they round, the activation, the rotary
tables, windows.  What a model's tensors show (is there a bias, is the head tied) is not repeated
here.  Imports no library: a plan knows the same families as a run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SLIDING, FULL = "sliding_attention", "full_attention"
ONE_TABLE, UNTURNED = "every_layer", "unturned"  # rotary tables that belong to no kind of layer

# Norms of a layer: field of `weights.LayerWeights` -> module.  Gemma 3 has one before and one after
# each block, the others one before; there the same module name stands for another place.
BEFORE_BLOCKS = {"before_attention": "input_layernorm", "before_mlp": "post_attention_layernorm"}
OF_HEADS = {"query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"}
AROUND_BLOCKS = {
    "before_attention": "input_layernorm",
    "after_attention": "post_attention_layernorm",
    "before_mlp": "pre_feedforward_layernorm",
    "after_mlp": "post_feedforward_layernorm",
}


@dataclass(frozen=True, slots=True)
class Family:
    """The models that one class of transformers computes: its name, and its layers' norms."""

    model_class: str
    norms: Mapping[str, str]


# by transformers' model type, of the text model
FAMILIES = {
    "gemma3_text": Family("Gemma3ForCausalLM", {**AROUND_BLOCKS, **OF_HEADS}),
    "llama": Family("LlamaForCausalLM", BEFORE_BLOCKS),  # SmolLM2 is one, too
    "mistral": Family("MistralForCausalLM", BEFORE_BLOCKS),
    "qwen2": Family("Qwen2ForCausalLM", BEFORE_BLOCKS),  # and 2.5
    "qwen3": Family("Qwen3ForCausalLM", {**BEFORE_BLOCKS, **OF_HEADS}),
    "smollm3": Family("SmolLM3ForCausalLM", BEFORE_BLOCKS),
}
GEMMA = "gemma3_text"
ACTIVATIONS = ("gelu_pytorch_tanh", "silu")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What `cpu.forward` and the kernels ask beside the weights.

    Attributes:
        heads, kv_heads, head_dim: the attention's shape.
        kinds: of each layer: "sliding_attention" or "full_attention".
        tables: of each layer, the rotary table that turns its queries and keys.
        window: how many tokens a sliding layer sees, itself included; None where none slides.
        eps: of every norm.
        norms: of a layer: field of `LayerWeights` -> module.
        norm_offset: what a norm's weight lacks of what it multiplies by.
        rounds_first: a normed vector is rounded to the model's number type before its weight
            multiplies it, not after.
        activation: of the gate, one of `ACTIVATIONS`.
        query_factor: what the query norm holds beside its weight.
        score_factor: what attention multiplies its scores by; with `query_factor` the whole scale.
    """

    heads: int
    kv_heads: int
    head_dim: int
    kinds: tuple[str, ...]
    tables: tuple[str, ...]
    window: int | None
    eps: float
    norms: Mapping[str, str]
    norm_offset: int
    rounds_first: bool
    activation: str
    query_factor: float
    score_factor: float


def read_recipe(config: Mapping[str, Any]) -> Recipe:
    """Read the configuration of a text model.

    Args:
        config: what `config.to_dict()` gives, of a model that `which_engine.why_not_described` has
            nothing against.
    """
    family, heads = str(config["model_type"]), config["num_attention_heads"]
    is_gemma = family == GEMMA
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    kinds = _kinds(config)
    tables = kinds if is_gemma else (ONE_TABLE,) * len(kinds)
    if family == "smollm3":  # some of its layers are turned by nothing (NoPE, arXiv 2305.19466)
        turned = config["no_rope_layers"]
        tables = tuple(ONE_TABLE if turned[number] else UNTURNED for number in range(len(kinds)))
    return Recipe(
        heads=heads,
        kv_heads=config["num_key_value_heads"],
        head_dim=head_dim,
        kinds=kinds,
        tables=tables,
        window=config["sliding_window"] if SLIDING in kinds else None,
        eps=config["rms_norm_eps"],
        norms=FAMILIES[family].norms,
        norm_offset=1 if is_gemma else 0,
        rounds_first=not is_gemma,
        activation=activation_of(config),
        query_factor=config["query_pre_attn_scalar"] ** -0.5 if is_gemma else 1.0,
        score_factor=1.0 if is_gemma else head_dim**-0.5,
    )


def activation_of(config: Mapping[str, Any]) -> str:
    """The gate's activation by its name in transformers; the family's own where none is named.

    The text part of a Gemma 3 with a vision tower need not name its type.
    """
    if config.get("model_type") in {*FAMILIES} - {GEMMA}:
        return str(config.get("hidden_act") or "silu")
    return str(config.get("hidden_activation") or "gelu_pytorch_tanh")


def _kinds(config: Mapping[str, Any]) -> tuple[str, ...]:
    family, layers = str(config["model_type"]), int(config["num_hidden_layers"])
    if family == "mistral":  # all or none; transformers does not ask its `layer_types`
        return (SLIDING if config["sliding_window"] else FULL,) * layers
    return (FULL,) * layers if family == "llama" else tuple(map(str, config["layer_types"]))
