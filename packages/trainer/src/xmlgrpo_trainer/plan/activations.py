"""What a micro-batch leaves on the GPU for its backward pass, tensor by tensor.

A test holds the count of a layer to what autograd saves of a small Gemma 3.  What stands in no
graph (gradients on their way, attention masks) is read from transformers 5.17, peft 0.21,
liger-kernel 0.8.5 and `xmlgrpo_trainer.grpo.fast_step`.

Widths of a token: H hidden, Q all query heads, K all key heads, M feed-forward, r adapter rank.
"""

from xmlgrpo_trainer.plan.load import Load

# Bytes a feed-forward number, for gradients on their way through one layer with peft's LoRA: what
# is left of the peak that was measured with chunked logits (`1b-32x256-liger`) over the count.
PEFT_IN_FLIGHT_BYTES = 7.1
# Bytes a token needs in one feed-forward part without gradient, over its width, beside the copy
# that peft's LoRA makes in its own number type.
READ_BYTES = 9
MASK_MULTIPLE = 16  # memory-efficient attention reads masks whose rows are so many numbers
FLOAT32 = 4


def layer_bytes(load: Load, *, masked: bool) -> float:
    """Bytes that a token leaves in one layer, but for the attention's mask if it has one."""
    shape, number = load.shape, load.number_bytes
    hidden, mlp = shape.hidden, shape.mlp
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    # Liger's norms keep what they are given, transformers' a float32 copy of it
    normed = (4 * hidden + query + key) * (number if load.liger else FLOAT32)
    # of each norm's and each query's sum one number
    sums = (4 + 2 * shape.heads + shape.kv_heads) * FLOAT32
    # with a mask each query gets a copy of its keys and values; one key head is only viewed
    is_repeated = masked and 1 < shape.kv_heads < shape.heads
    rotated = query + 2 * (query if is_repeated else key)
    attended = query
    # what projections read: queries, keys and values share theirs, so do gate and up
    read = 2 * hidden + mlp
    if not load.fused_lora and load.adapter_bytes != number:
        read += 3 * hidden + query  # peft's copies, cast back and forth, are each one's own
    # gate and up; transformers also keeps the activated gate
    inside = (2 if load.liger else 3) * mlp
    narrow = 7 * load.adapter_rank
    return normed + sums + (rotated + attended + read + inside + narrow) * number


def kept_bytes(load: Load) -> float:
    """Bytes that a micro-batch leaves for the backward pass."""
    tokens = load.micro_batch * load.length
    shape = load.shape
    if load.checkpointing:
        kept = float(tokens * shape.layers * shape.hidden * load.number_bytes)
    else:
        masked = masked_layers(load)
        kept = tokens * masked * layer_bytes(load, masked=True)
        kept += tokens * (shape.layers - masked) * layer_bytes(load, masked=False)
        kept += masked * mask_bytes(load, load.micro_batch)
    return kept + shared_mask_bytes(load, load.micro_batch)


def passing_bytes(load: Load) -> float:
    """Bytes that come and go in one layer of the backward pass, computed again or not."""
    shape, number = load.shape, load.number_bytes
    passing: float
    if load.fused_lora:
        # gradients of the feed-forward part's product, its input and output, and the residual
        passing = (shape.mlp + 3 * shape.hidden) * number
    else:
        passing = shape.mlp * PEFT_IN_FLIGHT_BYTES * (number / 2)
    if load.checkpointing:
        passing += layer_bytes(load, masked=masked_layers(load) > 0)
    again = passing_mask_bytes(load, load.micro_batch) if load.checkpointing else 0.0
    return load.micro_batch * load.length * passing + again


def reading_bytes(load: Load, tokens: int, *, lora_apart: bool) -> float:
    """Bytes that so many tokens need in one feed-forward part without gradient.

    Args:
        load: of the GPU.
        tokens: read at once.
        lora_apart: peft's own LoRA is applied, which makes copies.
    """
    shape, number = load.shape, load.number_bytes
    if lora_apart:
        return tokens * shape.mlp * (READ_BYTES + load.adapter_bytes) * (number / 2)
    # gate, up and their product; the layer's input and the normed one
    return float(tokens * (3 * shape.mlp + 2 * shape.hidden) * number)


def scored_bytes(load: Load) -> float:
    """Bytes of the pass without gradient over a generation batch, where logits are in chunks."""
    rows = load.scored_rows
    masks = shared_mask_bytes(load, rows) + passing_mask_bytes(load, rows)
    return masks + reading_bytes(load, rows * load.length, lora_apart=not load.fused_lora)


def masked_layers(load: Load) -> int:
    """Layers whose attention gets a mask: without padding before it, it is causal instead."""
    shape = load.shape
    if load.ragged and not load.aligned:
        return shape.layers
    if shape.window is None or load.length <= shape.window or load.windowed:
        return 0
    return shape.layers - shape.layers // shape.full_every


def mask_bytes(load: Load, rows: int) -> float:
    """Bytes of the mask that torch makes of the shared one in a layer, in its number type."""
    padded = -(-load.length // MASK_MULTIPLE) * MASK_MULTIPLE
    return float(_mask_rows(load, rows) * load.length * padded * load.number_bytes)


def passing_mask_bytes(load: Load, rows: int) -> float:
    """Bytes of a layer's mask while it is computed: as it is, and lengthened to whole multiples."""
    return 2 * mask_bytes(load, rows) if masked_layers(load) else 0.0


def shared_mask_bytes(load: Load, rows: int) -> float:
    """Bytes of the masks that all layers share, a byte a number: one a kind of masked layer."""
    masked = masked_layers(load)
    if not masked:
        return 0.0
    kinds = 2 if masked == load.shape.layers and load.shape.window is not None else 1
    return float(kinds * _mask_rows(load, rows) * load.length**2)


def _mask_rows(load: Load, rows: int) -> int:
    """Texts that begin at the left share one mask."""
    return 1 if load.aligned else rows
