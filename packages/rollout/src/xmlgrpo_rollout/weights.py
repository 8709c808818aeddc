"""A Gemma 3 text model's weights, read out of transformers and peft for a lean forward pass.

Reading is separate from computing: a LoRA adapter is merged here, in a copy, so that decoding
costs the same with and without one and the trained model is never touched.  A base in 4 bits is
unpacked on the way: the copy of its projections is in 16 bits.  `choice.why_not_read` names the
models that cannot be read so.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

SLIDING, FULL = "sliding_attention", "full_attention"

# of `LayerWeights`: the modules of a layer whose weights lie below one another in one tensor ...
JOINED = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
NORMS = {  # ... and its norms
    "query_norm": "self_attn.q_norm",
    "key_norm": "self_attn.k_norm",
    "before_attention": "input_layernorm",
    "after_attention": "post_attention_layernorm",
    "before_mlp": "pre_feedforward_layernorm",
    "after_mlp": "post_feedforward_layernorm",
}

# for each kind of layer: cosine and sine for every position, (positions, head_dim)
Rope = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer.

    Matrices are (out, in), in the model's number type.  Norm weights are in float32, as Gemma
    applies them, with its 1 already added.

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
    def dtype(self) -> torch.dtype:
        """The number type of the projections; an embedding beside 4-bit ones may have another."""
        return self.layers[0].qkv.dtype

    def row_bytes(self, slots: int) -> int:
        """What the keys and values of a row of `slots` tokens take, if windows are used."""
        windows = sum(layer.kind == SLIDING for layer in self.layers)
        tokens = windows * min(slots, self.window) + (len(self.layers) - windows) * slots
        return 2 * tokens * self.kv_heads * self.head_dim * self.dtype.itemsize

    @property
    def bytes_per_slot(self) -> int:
        """What the keys and values of one token take, over all layers."""
        numbers = 2 * len(self.layers) * self.kv_heads * self.head_dim
        return numbers * self.dtype.itemsize


def read_weights(model: nn.Module) -> Gemma3Weights:
    """Read a `Gemma3ForCausalLM`, bare or wrapped by peft with LoRA adapters.

    Args:
        model: one that `choice.why_not_read` has nothing against.
    """
    base = base_model(model)
    decoder, config = text_decoder(base), base.config.get_text_config()
    return Gemma3Weights(
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        window=config.sliding_window,
        eps=config.rms_norm_eps,
        embedding=decoder.embed_tokens.weight,
        embedding_scale=decoder.embed_tokens.embed_scale.to(decoder.embed_tokens.weight.dtype),
        layers=tuple(_read_layer(layer) for layer in decoder.layers),
        final_norm=_norm(decoder.norm),
        head=base.lm_head.weight,
    )


@torch.no_grad()
def refresh_weights(weights: Gemma3Weights, model: nn.Module) -> None:
    """Write the model's present weights into tensors that `read_weights` gave out earlier.

    In place, since a captured CUDA graph knows its tensors by their addresses, and each product
    into its place, since this is done before every rollout: copies would cost more than products.

    Raises:
        RuntimeError: the model has got an adapter since.
    """
    decoder = text_decoder(base_model(model))
    norms, sources = [weights.final_norm], [decoder.norm.weight]
    scaled: list[Tensor] = []
    for kept, layer in zip(weights.layers, decoder.layers, strict=True):
        for field, names in JOINED.items():
            _write_joined(_modules(layer, names), getattr(kept, field))
        for field, name in NORMS.items():
            norms.append(getattr(kept, field))
            sources.append(layer.get_submodule(name).weight)
        scaled.append(kept.query_norm)
    torch._foreach_copy_(norms, sources)
    torch._foreach_add_(norms, 1)
    torch._foreach_mul_(scaled, decoder.layers[0].self_attn.scaling)


def read_rope(model: nn.Module, positions: int) -> Rope:
    """Cosine and sine of the rotary embedding for places 0 to `positions` - 1."""
    decoder = text_decoder(base_model(model))
    like = decoder.embed_tokens.weight
    places_1_T = torch.arange(positions, device=like.device)[None]
    rope = {}
    for kind in sorted(set(decoder.config.layer_types)):
        cosine_1_T_D, sine_1_T_D = decoder.rotary_emb(like, places_1_T, kind)
        rope[kind] = (cosine_1_T_D[0], sine_1_T_D[0])
    return rope


def _read_layer(layer: Any) -> LayerWeights:
    norms = {field: _norm(layer.get_submodule(name)) for field, name in NORMS.items()}
    norms["query_norm"] *= layer.self_attn.scaling
    joined = {field: _joined(_modules(layer, names)) for field, names in JOINED.items()}
    return LayerWeights(kind=layer.self_attn.layer_type, **joined, **norms)


def _modules(layer: Any, names: tuple[str, ...]) -> list[Any]:
    return [layer.get_submodule(name) for name in names]


def _joined(projections: list[Any]) -> Tensor:
    """The merged weights, one below the other; of one bare projection the model's own tensor."""
    [first, *more] = projections
    if not more and not hasattr(first, "lora_A"):
        return unpacked(first.weight)
    like = unpacked(getattr(first, "base_layer", first).weight)
    rows = sum(projection.out_features for projection in projections)
    joined = like.new_empty(rows, like.shape[1])
    _write_joined(projections, joined)
    return joined


def _write_joined(projections: list[Any], target: Tensor) -> None:
    parts = torch.split(target, [projection.out_features for projection in projections])
    for projection, part in zip(projections, parts, strict=True):
        _write_merged(projection, part)


def _norm(norm: Any) -> Tensor:
    weight: Tensor = norm.weight.float()
    return 1 + weight


def _write_merged(linear: Any, target: Tensor) -> None:
    """W + scaling * B A for the adapters that are switched on (LoRA, arXiv 2106.09685 eq. 3)."""
    weight = unpacked(getattr(linear, "base_layer", linear).weight)
    adapters: list[str] = []
    if hasattr(linear, "lora_A") and not linear.disable_adapters and not linear.merged:
        adapters = [name for name in linear.active_adapters if name in linear.lora_A]
    is_models_own = target.data_ptr() == weight.data_ptr()
    if adapters and is_models_own:
        raise RuntimeError(
            "this model had no adapter when its weights were read, and has one now: merging would "
            "change the frozen weights. Put the adapter on first, then make the engine."
        )
    for name in adapters:
        down, up = linear.lora_A[name].weight, linear.lora_B[name].weight
        down, up = down.to(weight.dtype), up.to(weight.dtype)  # as the policy applies them
        # one product, rounded once, after the sum
        torch.addmm(weight, up, down, alpha=linear.scaling[name], out=target)
        weight = target
    if not adapters and not is_models_own:
        target.copy_(weight)


# --- a model's parts ---


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


def is_unpackable(weight: Tensor) -> bool:
    """Whether `unpacked` knows this form of a weight."""
    return weight.is_floating_point() or hasattr(weight, "quant_state")


def unpacked(weight: Tensor) -> Tensor:
    """The weight itself, or what bitsandbytes' 4 bits stand for (QLoRA, arXiv 2305.14314)."""
    if weight.is_floating_point():
        return weight
    from bitsandbytes.functional import dequantize_4bit

    full: Tensor = dequantize_4bit(weight.data, weight.quant_state)  # type: ignore[attr-defined]  # bitsandbytes' Params4bit has it
    return full
