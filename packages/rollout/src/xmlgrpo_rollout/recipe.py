"""How a decoder computes, read from its configuration: one engine serves every family named here.

The families differ in few places: where norms stand and when they round, the activation, the rotary
tables, windows.  What a model's tensors show (is there a bias, is the head tied) is not repeated
here.  Imports no library: a plan knows the same families as a run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SLIDING, FULL = "sliding_attention", "full_attention"
ONE_TABLE, UNTURNED = "every_layer", "unturned"  # rotary tables that belong to no kind of layer

# Norms of a layer: field of `weights.LayerWeights` -> module.  The same module name stands for
# another place where a family norms what a block gives.
BEFORE_BLOCKS = {"before_attention": "input_layernorm", "before_mlp": "post_attention_layernorm"}
AFTER_BLOCKS = {
    "after_attention": "post_attention_layernorm",
    "after_mlp": "post_feedforward_layernorm",
}
AROUND_BLOCKS = {
    "before_attention": "input_layernorm",
    "before_mlp": "pre_feedforward_layernorm",
    **AFTER_BLOCKS,
}
OF_HEADS = {"query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"}

# Projections of a layer: field of `weights.LayerWeights` -> the modules whose weights lie below one
# another in it.
APART = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
JOINT = APART | {"qkv": ("self_attn.qkv_proj",), "gate_up": ("mlp.gate_up_proj",)}


@dataclass(frozen=True, slots=True)
class Family:
    """The models that one class of transformers computes.

    Attributes:
        model_class: its name.
        norms, projections: of a layer: field of `LayerWeights` -> module, or modules.
        windows: which layers slide: none of them, all where there is a window, or those that the
            configuration lists.
        rounds_first: see `Recipe`.
        is_gemma: norm weights count from 1, embeddings are scaled by the width.
        turns_parts: its rotary embedding may turn a part of each head.
    """

    model_class: str
    norms: Mapping[str, str]
    projections: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: APART)
    windows: Literal["none", "all", "listed"] = "none"
    rounds_first: bool = True
    is_gemma: bool = False
    turns_parts: bool = False


# by transformers' model type, of the text model
FAMILIES = {
    "exaone4": Family("Exaone4ForCausalLM", {**AFTER_BLOCKS, **OF_HEADS}, windows="listed"),
    "gemma": Family("GemmaForCausalLM", BEFORE_BLOCKS, rounds_first=False, is_gemma=True),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        {**AROUND_BLOCKS, **OF_HEADS},
        windows="listed",
        rounds_first=False,
        is_gemma=True,
    ),
    "granite": Family("GraniteForCausalLM", BEFORE_BLOCKS),
    "llama": Family("LlamaForCausalLM", BEFORE_BLOCKS),  # SmolLM2 and Falcon 3 are, too
    "ministral": Family("MinistralForCausalLM", BEFORE_BLOCKS, windows="listed"),
    # transformers does not ask for its `layer_types`
    "mistral": Family("MistralForCausalLM", BEFORE_BLOCKS, windows="all"),
    "olmo2": Family("Olmo2ForCausalLM", {**AFTER_BLOCKS, **OF_HEADS}, rounds_first=False),
    "olmo3": Family(
        "Olmo3ForCausalLM", {**AFTER_BLOCKS, **OF_HEADS}, windows="listed", rounds_first=False
    ),
    "phi3": Family(  # and Phi-4
        "Phi3ForCausalLM", BEFORE_BLOCKS, JOINT, windows="all", turns_parts=True
    ),
    "qwen2": Family("Qwen2ForCausalLM", BEFORE_BLOCKS, windows="listed"),  # and 2.5
    "qwen3": Family("Qwen3ForCausalLM", {**BEFORE_BLOCKS, **OF_HEADS}, windows="listed"),
    "seed_oss": Family("SeedOssForCausalLM", BEFORE_BLOCKS),
    "smollm3": Family("SmolLM3ForCausalLM", BEFORE_BLOCKS, windows="listed"),
}
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
        norms, projections: of a layer: field of `LayerWeights` -> module, or modules.
        norm_offset: what a norm's weight lacks of what it multiplies by.
        rounds_first: a normed vector is rounded to the model's number type before its weight
            multiplies it, not after.
        norms_all_heads: queries are normed over all heads at once, and keys too.
        activation: of the gate, one of `ACTIVATIONS`.
        query_factor: what the query norm holds beside its weight.
        score_factor: what attention multiplies its scores by; with `query_factor` the whole scale.
        embedding_factor: what an embedding is multiplied by.
        residual_factor: what a block gives is multiplied by it before it is added.
        logit_divisor: the head's products are divided by it.
    """

    heads: int
    kv_heads: int
    head_dim: int
    kinds: tuple[str, ...]
    tables: tuple[str, ...]
    window: int | None
    eps: float
    norms: Mapping[str, str]
    projections: Mapping[str, tuple[str, ...]]
    norm_offset: int
    rounds_first: bool
    norms_all_heads: bool
    activation: str
    query_factor: float
    score_factor: float
    embedding_factor: float
    residual_factor: float
    logit_divisor: float


def read_recipe(config: Mapping[str, Any]) -> Recipe:
    """Read the configuration of a text model.

    Args:
        config: what `config.to_dict()` gives, of a model that `which_engine.why_not_described` has
            nothing against.
    """
    kind, hidden = str(config["model_type"]), config["hidden_size"]
    family, heads = FAMILIES[kind], config["num_attention_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    kinds = _kinds(config, family)
    # into the weights of a norm that computes in float32 to its end
    is_folded = family.is_gemma and "query_norm" in family.norms
    scale = (config["query_pre_attn_scalar"] if is_folded else head_dim) ** -0.5
    factors: Mapping[str, float] = config if kind == "granite" else {}
    return Recipe(
        heads=heads,
        kv_heads=config["num_key_value_heads"],
        head_dim=head_dim,
        kinds=kinds,
        tables=_tables(config, kinds),
        window=config["sliding_window"] if SLIDING in kinds else None,
        eps=config["rms_norm_eps"],
        norms=family.norms,
        projections=family.projections,
        norm_offset=1 if family.is_gemma else 0,
        rounds_first=family.rounds_first,
        norms_all_heads=kind in {"olmo2", "olmo3"},
        activation=activation_of(config),
        query_factor=scale if is_folded else 1.0,
        score_factor=1.0 if is_folded else factors.get("attention_multiplier", scale),
        embedding_factor=hidden**0.5
        if family.is_gemma
        else factors.get("embedding_multiplier", 1.0),
        residual_factor=factors.get("residual_multiplier", 1.0),
        logit_divisor=factors.get("logits_scaling", 1.0),
    )


def activation_of(config: Mapping[str, Any]) -> str:
    """The gate's activation by its name in transformers; the family's own where none is named.

    The text part of a Gemma 3 with a vision tower need not name its type.
    """
    kind = str(config.get("model_type"))
    if kind == "gemma":
        return str(config.get("hidden_act") or "gelu_pytorch_tanh")
    if kind in FAMILIES and not FAMILIES[kind].is_gemma:
        return str(config.get("hidden_act") or "silu")
    return str(config.get("hidden_activation") or "gelu_pytorch_tanh")


def _kinds(config: Mapping[str, Any], family: Family) -> tuple[str, ...]:
    layers = int(config["num_hidden_layers"])
    if family.windows == "listed":
        return tuple(map(str, config["layer_types"]))
    slides = family.windows == "all" and config["sliding_window"]
    return (SLIDING if slides else FULL,) * layers


def _tables(config: Mapping[str, Any], kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Of each layer; some are turned by nothing (NoPE, arXiv 2305.19466)."""
    match config["model_type"]:
        case "gemma3_text" | "olmo3":
            return kinds
        case "smollm3":
            turned = config["no_rope_layers"]
        case "exaone4":
            turned = [kind == SLIDING or not config["sliding_window"] for kind in kinds]
        case _:
            turned = [True] * len(kinds)
    return tuple(ONE_TABLE if is_turned else UNTURNED for is_turned in turned)
