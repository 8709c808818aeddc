"""From the joint projection to queries, keys and values: norms, rotary embedding, and their places.

One program a head of a token.  A layer's cache is (rows, kv_heads, slots, head_dim), a ring: the
token at place `at` of its row lies in slot `at % slots`, so a sliding layer needs no more slots
than its window, and what falls out of the window is overwritten.
"""

import triton
import triton.language as tl
from torch import Tensor

from xmlgrpo_rollout.gpu.kernels.early import launch, wait_and_release
from xmlgrpo_rollout.recipe import Recipe
from xmlgrpo_rollout.weights import LayerWeights, norm_all_heads


@triton.jit
def _weighed(normed, weights, like, ROUNDS_FIRST: tl.constexpr):
    """A normed vector times its weights, in `like`'s number type."""
    if ROUNDS_FIRST:
        normed = normed.to(like.dtype.element_ty).to(tl.float32)
    return (normed * weights).to(like.dtype.element_ty)


@triton.jit
def turned_heads(
    vectors,
    places,
    inside,
    weight,
    cosine,
    sine,
    place,
    size,
    turned,
    eps,
    like,
    HAS_NORM: tl.constexpr,
    ROUNDS_FIRST: tl.constexpr,
):
    """Vectors of heads, normed if they have a norm, their first `turned` numbers turned.

    In `like`'s number type.  `places` is the last axis: of one head's vector or of several heads'.
    """
    number_type = like.dtype.element_ty
    half = turned // 2
    partner_places = tl.where(places < half, places + half, places - half)
    own = tl.load(vectors + places, mask=inside, other=0.0).to(tl.float32)
    partner = tl.load(vectors + partner_places, mask=inside, other=0.0).to(tl.float32)
    if HAS_NORM:
        inverse = tl.rsqrt(tl.sum(own * own, axis=-1, keep_dims=True) / size + eps)
        own_weights = tl.load(weight + places, mask=places < size, other=0.0)
        partner_weights = tl.load(weight + partner_places, mask=places < size, other=0.0)
        own = _weighed(own * inverse, own_weights, like, ROUNDS_FIRST)
        partner = _weighed(partner * inverse, partner_weights, like, ROUNDS_FIRST)
    own, partner = own.to(number_type), partner.to(number_type)
    # rotary embedding (arXiv 2104.09864 eq. 34, halves in place of pairs)
    turn = place * turned + places
    cosines = tl.load(cosine + turn, mask=places < turned, other=1.0)
    sines = tl.load(sine + turn, mask=places < turned, other=0.0)
    return own * cosines + tl.where(places < half, -partner, partner) * sines


@triton.jit
def _store_token(
    joint,
    query_weight,
    key_weight,
    cosine,
    sine,
    at_place,
    padding,
    query,
    keys,
    values,
    heads,
    kv_heads,
    size,
    turned,
    slots,
    eps,
    HAS_NORM: tl.constexpr,
    ROUNDS_FIRST: tl.constexpr,
    BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):
    wait_and_release(EARLY)
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    places = tl.arange(0, BLOCK)
    inside = places < size
    at = tl.load(at_place)
    vector = joint + (row * (heads + 2 * kv_heads) + head) * size
    slot = (at % slots).to(tl.int64)
    if head >= heads + kv_heads:
        there = ((row * kv_heads + head - heads - kv_heads) * slots + slot) * size
        own = tl.load(vector + places, mask=inside, other=0.0)
        tl.store(values + there + places, own, mask=inside)
    else:
        weight = query_weight if head < heads else key_weight
        place = tl.maximum(at - tl.load(padding + row), 0).to(tl.int64)
        result = turned_heads(
            vector,
            places,
            inside,
            weight,
            cosine,
            sine,
            place,
            size,
            turned,
            eps,
            query,
            HAS_NORM,
            ROUNDS_FIRST,
        )
        if head < heads:
            tl.store(query + (row * heads + head) * size + places, result, mask=inside)
        else:
            there = ((row * kv_heads + head - heads) * slots + slot) * size
            tl.store(keys + there + places, result, mask=inside)


@triton.jit
def _split_prompts(
    joint,
    query_weight,
    key_weight,
    cosine,
    sine,
    padding,
    query,
    keys,
    values,
    heads,
    kv_heads,
    size,
    turned,
    length,
    eps,
    HAS_NORM: tl.constexpr,
    ROUNDS_FIRST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)  # of all prompts, one after another
    head = tl.program_id(1)
    row, at = token // length, token % length
    places = tl.arange(0, BLOCK)
    inside = places < size
    vector = joint + (token * (heads + 2 * kv_heads) + head) * size
    if head >= heads + kv_heads:
        there = ((row * kv_heads + head - heads - kv_heads) * length + at) * size
        own = tl.load(vector + places, mask=inside, other=0.0)
        tl.store(values + there + places, own, mask=inside)
    else:
        weight = query_weight if head < heads else key_weight
        place = tl.maximum(at - tl.load(padding + row), 0).to(tl.int64)
        result = turned_heads(
            vector,
            places,
            inside,
            weight,
            cosine,
            sine,
            place,
            size,
            turned,
            eps,
            query,
            HAS_NORM,
            ROUNDS_FIRST,
        )
        if head < heads:
            there = ((row * heads + head) * length + at) * size
            tl.store(query + there + places, result, mask=inside)
        else:
            there = ((row * kv_heads + head - heads) * length + at) * size
            tl.store(keys + there + places, result, mask=inside)


def store_token(
    joint: Tensor,
    layer: LayerWeights,
    rope: tuple[Tensor, Tensor],
    at: Tensor,
    padding_R: Tensor,
    query_R_N_D: Tensor,
    keys_R_K_S_D: Tensor,
    values_R_K_S_D: Tensor,
    recipe: Recipe,
    *,
    early: bool = False,
) -> None:
    """Norm and turn one new token's queries and keys a row; put keys and values into the cache.

    Args:
        joint: (rows, (heads + 2 kv_heads) * head_dim), of the joint projection.
        layer: whose norms are applied, where it has any.
        rope: cosine and sine for every place, (places, turned).
        at: the place of the new tokens, one number.
        padding_R: padding tokens before each row's text.
        query_R_N_D: the queries are written here.
        keys_R_K_S_D, values_R_K_S_D: the layer's cache.
        early: see `early.py`.
    """
    rows, heads, size = query_R_N_D.shape
    kv_heads, slots = keys_R_K_S_D.shape[1:3]
    joint, norms_heads, weights = norms_of(layer, joint, recipe)
    _store_token[(rows, heads + 2 * kv_heads)](
        joint,
        *weights,
        *rope,
        at,
        padding_R,
        query_R_N_D,
        keys_R_K_S_D,
        values_R_K_S_D,
        heads,
        kv_heads,
        size,
        rope[0].shape[1],
        slots,
        recipe.eps,
        HAS_NORM=norms_heads,
        ROUNDS_FIRST=recipe.rounds_first,
        BLOCK=triton.next_power_of_2(size),
        num_warps=1,
        **launch(early=early),
    )


def split_prompts(
    joint: Tensor,
    layer: LayerWeights,
    rope: tuple[Tensor, Tensor],
    padding_P: Tensor,
    query_P_N_T_D: Tensor,
    keys_P_K_T_D: Tensor,
    values_P_K_T_D: Tensor,
    recipe: Recipe,
) -> None:
    """Norm and turn the queries and keys of whole prompts, and lay each head's tokens together.

    Args:
        joint: (prompts * tokens, (heads + 2 kv_heads) * head_dim), of the joint projection.
        layer: whose norms are applied, where it has any.
        rope: cosine and sine for every place, (places, turned).
        padding_P: padding tokens before each prompt.
        query_P_N_T_D, keys_P_K_T_D, values_P_K_T_D: what is written.
    """
    prompts, heads, length, size = query_P_N_T_D.shape
    kv_heads = keys_P_K_T_D.shape[1]
    joint, norms_heads, weights = norms_of(layer, joint, recipe)
    _split_prompts[(prompts * length, heads + 2 * kv_heads)](
        joint,
        *weights,
        *rope,
        padding_P,
        query_P_N_T_D,
        keys_P_K_T_D,
        values_P_K_T_D,
        heads,
        kv_heads,
        size,
        rope[0].shape[1],
        length,
        recipe.eps,
        HAS_NORM=norms_heads,
        ROUNDS_FIRST=recipe.rounds_first,
        BLOCK=triton.next_power_of_2(size),
        num_warps=1,
    )


def norms_of(
    layer: LayerWeights, joint: Tensor, recipe: Recipe
) -> tuple[Tensor, bool, tuple[Tensor, Tensor]]:
    """The joint projection, whether the kernel norms each head, and the two norms' weights."""
    query_norm, key_norm = layer.query_norm, layer.key_norm
    if query_norm is None or key_norm is None:
        return joint, False, (joint, joint)
    if recipe.norms_all_heads:
        return norm_all_heads(recipe, layer, joint), False, (joint, joint)
    return joint, True, (query_norm, key_norm)
