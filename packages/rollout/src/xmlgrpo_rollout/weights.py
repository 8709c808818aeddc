"""A Gemma 3 text model's weights, read out of transformers and peft for a lean forward pass.

Reading is separate from computing: a LoRA adapter is merged here, in a copy, so that decoding
costs the same with and without one and the trained model is never touched.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

ROPES = ("default", "linear")  # Gemma 3's own; others may change with the length

# for each kind of layer: cosine and sine for every position, (positions, head_dim)
Rope = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer.  Matrices are (out, in); norm weights already have Gemma's 1 added.

    Attributes:
        kind: "sliding_attention" or "full_attention".
        qkv: query, key and value projections, one below the other.
        attention_out, gate_up, down: the other projections; gate above up.
        query_norm: also holds the attention's scale.
        key_norm, before_attention, after_attention, before_mlp, after_mlp: norm weights.
    """

    kind: str
    qkv: Tensor
    attention_out: Tensor
    gate_up: Tensor
    down: Tensor
    query_norm: Tensor
    key_norm: Tensor
    before_attention: Tensor
    after_attention: Tensor
    before_mlp: Tensor
    after_mlp: Tensor


@dataclass(frozen=True, slots=True)
class Gemma3Weights:
    """What a forward pass of a Gemma 3 text model needs.

    Attributes:
        heads, kv_heads, head_dim: the attention's shape.
        window: how many tokens a sliding layer sees, itself included.
        eps: of every norm.
        embedding: (vocabulary, hidden).
        embedding_scale: what an embedding is multiplied by.
        layers: from first to last.
        final_norm: (hidden,).
        head: (vocabulary, hidden); the embedding itself where the two are tied.
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int
    eps: float
    embedding: Tensor
    embedding_scale: Tensor
    layers: tuple[LayerWeights, ...]
    final_norm: Tensor
    head: Tensor

    @property
    def bytes_per_slot(self) -> int:
        """What the keys and values of one token take, over all layers."""
        numbers = 2 * len(self.layers) * self.kv_heads * self.head_dim
        return numbers * self.embedding.element_size()


def read_weights(model: nn.Module) -> Gemma3Weights:
    """Read a `Gemma3ForCausalLM`, bare or wrapped by peft with LoRA adapters.

    Args:
        model: one that `why_not_read` has nothing against.
    """
    base = base_model(model)
    decoder, config = base.model, base.config
    return Gemma3Weights(
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        window=config.sliding_window,
        eps=config.rms_norm_eps,
        embedding=decoder.embed_tokens.weight,
        embedding_scale=decoder.embed_tokens.embed_scale.to(decoder.embed_tokens.weight.dtype),
        layers=tuple(_read_layer(layer) for layer in decoder.layers),
        final_norm=1 + decoder.norm.weight,
        head=base.lm_head.weight,
    )


def base_model(model: nn.Module) -> Any:
    """The transformers model inside a peft one, or the model itself."""
    unwrap = getattr(model, "get_base_model", None)
    return model if unwrap is None else unwrap()


def why_not_read(model: nn.Module) -> str | None:
    """Why `read_weights` cannot read this model, in words for the user; None when it can."""
    base = base_model(model)
    if type(base).__name__ != "Gemma3ForCausalLM":
        return f"it reads Gemma3ForCausalLM (text only), not {type(base).__name__}"
    config = base.config
    if config.attn_logit_softcapping or config.final_logit_softcapping or config.attention_bias:
        return "it knows no soft-capping and no attention bias, which this model has"
    if config.hidden_activation != "gelu_pytorch_tanh" or config.use_bidirectional_attention:
        return "it knows only Gemma's own activation and causal attention"
    if any(config.rope_parameters[kind]["rope_type"] not in ROPES for kind in config.layer_types):
        return f"it knows only these rotary embeddings: {', '.join(ROPES)}"
    for name, module in base.named_modules():
        reason = _why_not_merged(name, module)
        if reason is not None:
            return reason
    return None


def _why_not_merged(name: str, module: Any) -> str | None:
    if type(module).__name__ == "ModulesToSaveWrapper":
        return f"{name} is trained in full beside the adapter (modules_to_save)"
    linear = getattr(module, "base_layer", module)
    if isinstance(linear, nn.Linear) and not linear.weight.is_floating_point():
        return f"{name} is quantized"
    if linear is module:
        return None
    is_plain_lora = (
        type(linear) is nn.Linear
        and hasattr(module, "lora_A")
        and not module.lora_variant  # DoRA and its like
        and not any(module.lora_bias.values())
    )
    return None if is_plain_lora else f"it merges plain LoRA only, and {name} has another adapter"


def read_rope(model: nn.Module, positions: int) -> Rope:
    """Cosine and sine of the rotary embedding for places 0 to `positions` - 1."""
    decoder = base_model(model).model
    like = decoder.embed_tokens.weight
    places_1_T = torch.arange(positions, device=like.device)[None]
    rope = {}
    for kind in sorted(set(decoder.config.layer_types)):
        cosine_1_T_D, sine_1_T_D = decoder.rotary_emb(like, places_1_T, kind)
        rope[kind] = (cosine_1_T_D[0], sine_1_T_D[0])
    return rope


def _read_layer(layer: Any) -> LayerWeights:
    attention, mlp = layer.self_attn, layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    return LayerWeights(
        kind=attention.layer_type,
        qkv=torch.cat([_merged(projection) for projection in projections]),
        attention_out=_merged(attention.o_proj),
        gate_up=torch.cat([_merged(mlp.gate_proj), _merged(mlp.up_proj)]),
        down=_merged(mlp.down_proj),
        query_norm=(1 + attention.q_norm.weight) * attention.scaling,
        key_norm=1 + attention.k_norm.weight,
        before_attention=1 + layer.input_layernorm.weight,
        after_attention=1 + layer.post_attention_layernorm.weight,
        before_mlp=1 + layer.pre_feedforward_layernorm.weight,
        after_mlp=1 + layer.post_feedforward_layernorm.weight,
    )


def _merged(linear: Any) -> Tensor:
    """W + scaling * B A for the adapters that are switched on (LoRA, arXiv 2106.09685 eq. 3)."""
    if not hasattr(linear, "lora_A"):
        return linear.weight  # type: ignore[no-any-return]  # transformers is untyped here
    weight = linear.base_layer.weight
    if linear.disable_adapters or linear.merged:
        return weight  # type: ignore[no-any-return]
    for name in linear.active_adapters:
        if name in linear.lora_A:
            update = linear.lora_B[name].weight @ linear.lora_A[name].weight
            weight = weight + linear.scaling[name] * update.to(weight.dtype)
    return weight  # type: ignore[no-any-return]
