"""A text model's weights, read out of transformers and peft for a lean forward pass.

Reading is separate from computing: a LoRA adapter is merged here, in a copy, so that decoding
costs the same with and without one and the trained model is never touched.  A base in 4 bits is
unpacked on the way: the copy of its projections is in 16 bits.  Where it is asked for, the copy of
any base is in 8 bits (`int8.py`).  `choice.why_not_read` names the models that cannot be read so.
Norms and the product with the head, which all passes compute alike, are at the end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name in torch's own documentation
from torch import Tensor, nn

from xmlgrpo_rollout.int8 import Int8Matrix, Matrix, full
from xmlgrpo_rollout.recipe import FULL, SLIDING, UNTURNED, Recipe, read_recipe

# for each rotary table: cosine and sine for every position, (positions, turned); what of
# a head is past `turned` numbers stays as it is
Rope = dict[str, tuple[Tensor, Tensor]]
HEAD_ROWS = 2048  # of a 16-bit head that are in float32 at once on a CPU: they stay in its cache


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer.

    Matrices are (out, in), in the model's number type or in 8 bits.  Norm weights are in float32,
    with the recipe's offset already added; None where the family has no such norm.

    Attributes:
        kind: "sliding_attention" or "full_attention".
        table: the rotary table of its queries and keys.
        qkv: query, key and value projections, one below the other.
        attention_out, gate_up, down: the other projections; gate above up.
        biases: of the four above, those that there are.
        before_attention, before_mlp, after_attention, after_mlp, key_norm: norm weights.
        query_norm: also holds the recipe's `query_factor`.
    """

    kind: str
    table: str
    qkv: Matrix
    attention_out: Matrix
    gate_up: Matrix
    down: Matrix
    biases: Mapping[str, Tensor]
    before_attention: Tensor | None = None
    before_mlp: Tensor | None = None
    after_attention: Tensor | None = None
    after_mlp: Tensor | None = None
    query_norm: Tensor | None = None
    key_norm: Tensor | None = None


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    """What a forward pass of a text model needs.

    Attributes:
        recipe: how they are used.
        embedding: (vocabulary, hidden).
        embedding_scale: the recipe's `embedding_factor`, in the embedding's number type.
        layers: from first to last.
        final_norm: (hidden,).
        head: (vocabulary, hidden); the embedding itself where the two are tied.
    """

    recipe: Recipe
    embedding: Tensor
    embedding_scale: Tensor
    layers: Sequence[LayerWeights]
    final_norm: Tensor
    head: Tensor

    def logits(self, normed: Tensor) -> Tensor:
        """Of tokens whose last norm is computed, (N, hidden): (N, vocabulary) in float32."""
        products = float32_product(normed, self.head)
        divisor = self.recipe.logit_divisor
        return products if divisor == 1 else products / divisor

    @property
    def dtype(self) -> torch.dtype:
        """The number type of the projections; an embedding beside 4-bit ones may have another."""
        return self.layers[0].qkv.dtype

    def row_bytes(self, slots: int) -> int:
        """What the keys and values of a row of `slots` tokens take, if windows are used."""
        seen = [self.slots_seen(kind, slots) for kind in self.recipe.kinds]
        return sum(seen) * self._token_bytes

    @property
    def bytes_per_slot(self) -> int:
        """What the keys and values of one token take, over all layers."""
        return len(self.layers) * self._token_bytes

    def slots_seen(self, kind: str, slots: int) -> int:
        """How many of `slots` slots a layer of this kind sees at most."""
        window = self.recipe.window if kind == SLIDING else None
        return slots if window is None else min(slots, window)

    @property
    def _token_bytes(self) -> int:
        return 2 * self.recipe.kv_heads * self.recipe.head_dim * self.dtype.itemsize


def recipe_of(model: nn.Module) -> Recipe:
    """How a loaded model computes."""
    return read_recipe(base_model(model).config.get_text_config().to_dict())


def read_weights(model: nn.Module, *, int8: bool = False) -> DecoderWeights:
    """Read a model of one of the recipe's families, bare or wrapped by peft with LoRA adapters.

    Args:
        model: one that `choice.why_not_read` has nothing against.
        int8: projections in 8 bits.
    """
    base, recipe = base_model(model), recipe_of(model)
    decoder = text_decoder(base)
    embedding = decoder.embed_tokens.weight
    layers = zip(decoder.layers, recipe.kinds, recipe.tables, strict=True)
    return DecoderWeights(
        recipe=recipe,
        embedding=embedding,
        embedding_scale=embedding.new_tensor(recipe.embedding_factor),
        layers=tuple(_read_layer(recipe, *layer, int8=int8) for layer in layers),
        final_norm=_norm(recipe, decoder.norm),
        head=base.lm_head.weight,
    )


def in_full(weights: DecoderWeights) -> DecoderWeights:
    """The same weights, matrices in 8 bits replaced by those that they stand for."""

    def layer(given: LayerWeights) -> LayerWeights:
        fields: dict[str, Any] = {f: full(getattr(given, f)) for f in weights.recipe.projections}
        return replace(given, **fields)

    return replace(weights, layers=tuple(map(layer, weights.layers)))


@torch.no_grad()
def refresh_weights(weights: DecoderWeights, model: nn.Module) -> None:
    """Write the model's present weights into tensors that `read_weights` gave out earlier.

    In place, since a captured CUDA graph knows its tensors by their addresses, and each product
    into its place, since this is done before every rollout: copies would cost more than products.

    Raises:
        RuntimeError: the model has got an adapter since.
    """
    decoder, recipe = text_decoder(base_model(model)), weights.recipe
    norms, sources = [weights.final_norm], [decoder.norm.weight]
    scaled: list[Tensor] = []
    for kept, layer in zip(weights.layers, decoder.layers, strict=True):
        for field, names in recipe.projections.items():
            _write_joined(_modules(layer, names), getattr(kept, field))
            if field in kept.biases:
                kept.biases[field].copy_(_joined_biases(_modules(layer, names)))
        for field, name in recipe.norms.items():
            norms.append(getattr(kept, field))
            sources.append(layer.get_submodule(name).weight)
        if kept.query_norm is not None:
            scaled.append(kept.query_norm)
    torch._foreach_copy_(norms, sources)
    if recipe.norm_offset:
        torch._foreach_add_(norms, recipe.norm_offset)
    if recipe.query_factor != 1:
        torch._foreach_mul_(scaled, recipe.query_factor)


def read_rope(model: nn.Module, positions: int) -> Rope:
    """Cosine and sine of the rotary embedding for places 0 to `positions` - 1."""
    decoder, recipe = text_decoder(base_model(model)), recipe_of(model)
    like = decoder.embed_tokens.weight
    places_1_T = torch.arange(positions, device=like.device)[None]

    def turns(table: str) -> tuple[Tensor, Tensor]:
        if table == UNTURNED:
            ones_T_D = like.new_ones(positions, recipe.head_dim)
            return ones_T_D, torch.zeros_like(ones_T_D)
        of_kind = (table,) if table in {SLIDING, FULL} else ()
        cosine_1_T_D, sine_1_T_D = decoder.rotary_emb(like, places_1_T, *of_kind)
        return cosine_1_T_D[0], sine_1_T_D[0]

    return {table: turns(table) for table in sorted(set(recipe.tables))}


def _read_layer(recipe: Recipe, layer: Any, kind: str, table: str, *, int8: bool) -> LayerWeights:
    norms = {f: _norm(recipe, layer.get_submodule(name)) for f, name in recipe.norms.items()}
    if "query_norm" in norms:
        norms["query_norm"] *= recipe.query_factor
    parts = {field: _modules(layer, names) for field, names in recipe.projections.items()}
    joined: dict[str, Any] = {f: _joined(modules, int8=int8) for f, modules in parts.items()}
    biases = {
        field: _joined_biases(modules)
        for field, modules in parts.items()
        if _bias(modules[0]) is not None
    }
    return LayerWeights(kind=kind, table=table, biases=biases, **joined, **norms)


def _modules(layer: Any, names: tuple[str, ...]) -> list[Any]:
    return [layer.get_submodule(name) for name in names]


def _joined(projections: list[Any], *, int8: bool) -> Matrix:
    """The merged weights, one below the other; of one bare projection the model's own tensor."""
    [first, *more] = projections
    if not (more or int8 or hasattr(first, "lora_A")):
        return unpacked(first.weight)
    like = unpacked(getattr(first, "base_layer", first).weight)
    shape = (sum(projection.out_features for projection in projections), like.shape[1])
    joined: Matrix = like.new_empty(shape)
    if int8:
        numbers_N_K = like.new_empty(shape, dtype=torch.int8)
        joined = Int8Matrix(numbers_N_K, like.new_empty(shape[0], dtype=torch.float32), like.dtype)
    _write_joined(projections, joined)
    return joined


def _write_joined(projections: list[Any], target: Matrix) -> None:
    rows = [projection.out_features for projection in projections]
    if isinstance(target, Int8Matrix):
        for projection, matrix in zip(projections, target.split(rows), strict=True):
            matrix.write(_merged_in_float32(projection))
        return
    for projection, part in zip(projections, torch.split(target, rows), strict=True):
        _write_merged(projection, part)


def _joined_biases(projections: list[Any]) -> Tensor:
    return torch.cat([_bias(projection).detach() for projection in projections])


def _bias(projection: Any) -> Any:
    return getattr(projection, "base_layer", projection).bias


def _norm(recipe: Recipe, norm: Any) -> Tensor:
    # a copy, whatever the number type: it is refreshed in place
    weight: Tensor = norm.weight.detach().float() + recipe.norm_offset
    return weight


def _write_merged(linear: Any, target: Tensor) -> None:
    """W + scaling * B A for the adapters that are switched on (LoRA, arXiv 2106.09685 eq. 3)."""
    weight = unpacked(getattr(linear, "base_layer", linear).weight)
    is_models_own = target.data_ptr() == weight.data_ptr()
    for down, up, scaling in _adapters(linear, weight.dtype):
        if is_models_own:
            raise RuntimeError(
                "this model had no adapter when its weights were read, and has one now: merging "
                "would change the frozen weights. Put the adapter on first, then make the engine."
            )
        # one product, rounded once, after the sum
        torch.addmm(weight, up, down, alpha=scaling, out=target)
        weight = target
    if weight is not target and not is_models_own:
        target.copy_(weight)


def _merged_in_float32(linear: Any) -> Tensor:
    """The same, not rounded: the base's weights do not lie on the grid of 8 bits that comes next.

    So an update that is small beside a step of that grid still arrives in the mean.
    """
    weight = unpacked(getattr(linear, "base_layer", linear).weight)
    merged = weight.float()
    for down, up, scaling in _adapters(linear, weight.dtype):
        merged = torch.addmm(merged, up.float(), down.float(), alpha=scaling)
    return merged


def _adapters(linear: Any, number_type: torch.dtype) -> Iterator[tuple[Tensor, Tensor, float]]:
    """A, B and the scaling of each that is switched on, in the type that the policy applies."""
    if not hasattr(linear, "lora_A") or linear.disable_adapters or linear.merged:
        return
    for name in linear.active_adapters:
        if name in linear.lora_A:
            down, up = linear.lora_A[name].weight, linear.lora_B[name].weight
            yield down.to(number_type), up.to(number_type), linear.scaling[name]


# --- a model's parts ---


def base_model(model: nn.Module) -> Any:
    """The transformers model inside a peft one, or the model itself."""
    unwrap = getattr(model, "get_base_model", None)
    return model if unwrap is None else unwrap()


def text_decoder(base: Any) -> Any:
    """The layers that read and write text; some Gemma 3 have a vision tower beside."""
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


def float32_product(hidden_N_C: Tensor, head_V_C: Tensor) -> Tensor:
    """Logits in float32, (N, V), of factors in the head's number type.

    In bfloat16 logits of 16 to 32 would lie on a grid of 0.125, and near ties become ties.
    """
    hidden_N_C = hidden_N_C.to(head_V_C.dtype)
    if head_V_C.dtype == torch.float32:
        return F.linear(hidden_N_C, head_V_C)
    if head_V_C.is_cuda:
        return torch.mm(hidden_N_C, head_V_C.t(), out_dtype=torch.float32)
    hidden_N_C = hidden_N_C.float()  # torch has no such product on a CPU
    logits_N_V = hidden_N_C.new_empty(len(hidden_N_C), len(head_V_C))
    for start in range(0, len(head_V_C), HEAD_ROWS):
        rows = slice(start, start + HEAD_ROWS)
        torch.mm(hidden_N_C, head_V_C[rows].float().t(), out=logits_N_V[:, rows])
    return logits_N_V


def rms_norm(recipe: Recipe, vectors: Tensor, weight: Tensor) -> Tensor:
    """Root mean square norm over the last axis, in float32 whatever the vectors are."""
    number_type = vectors.dtype
    if recipe.rounds_first and number_type != torch.float32:
        normed = F.rms_norm(vectors.float(), weight.shape, None, recipe.eps).to(number_type)
        return normed * weight.to(number_type)
    return F.rms_norm(vectors.float(), weight.shape, weight, recipe.eps).to(number_type)


def norm_all_heads(recipe: Recipe, layer: LayerWeights, joint: Tensor) -> Tensor:
    """The joint projection, its queries normed over all heads at once, and its keys too."""
    sizes = [count * recipe.head_dim for count in (recipe.heads, recipe.kv_heads, recipe.kv_heads)]
    query, key, value = torch.split(joint, sizes, dim=-1)
    query = norm_of(recipe, query, layer.query_norm)
    return torch.cat([query, norm_of(recipe, key, layer.key_norm), value], dim=-1)


def norm_of(recipe: Recipe, vectors: Tensor, weight: Tensor | None) -> Tensor:
    """The vectors after their norm, or as they are where the model has none there."""
    return vectors if weight is None else rms_norm(recipe, vectors, weight)
