"""The completions that grow side by side, in device memory: what a decoding step reads and writes.

Axes: R rows, K key heads, D head size, S slots, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xmlgrpo_rollout.gpu.kernels.draw import Growing
from xmlgrpo_rollout.weights import DecoderWeights, LayerWeights


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors that stay where they are: a captured graph knows them by address.

    Attributes:
        keys, values: a layer's cache each, (R, K, S, D); a sliding layer's has its window's slots.
        padding: padding tokens before each row's text, int32, (R,).
        sources: for each row one that holds the same prompt, int32, (R,).
        counters: the slot of the newest token, and which token of its completion it is, (2,).
        growing: the completions, and which of them are done.
    """

    keys: list[Tensor]
    values: list[Tensor]
    padding: Tensor
    sources: Tensor
    counters: Tensor
    growing: Growing

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.padding)

    @property
    def at(self) -> Tensor:
        """The slot of the newest token."""
        return self.counters[0]

    @property
    def moved_on(self) -> tuple[Tensor, ...]:
        """All of it that a step reads and changes; what else a step writes, it writes anew."""
        return self.counters, self.growing.tokens, self.growing.is_done

    def front(self, rows: int) -> "Batch":
        """The first rows alone, in the same memory."""
        of_draw = self.growing
        return Batch(
            [keys[:rows] for keys in self.keys],
            [values[:rows] for values in self.values],
            self.padding[:rows],
            self.sources[:rows],
            self.counters,
            replace(
                of_draw,
                lines=of_draw.lines[:rows],
                is_done=of_draw.is_done[:rows],
                tokens=of_draw.tokens[:rows],
            ),
        )

    def bring_forward(self, rows: int) -> None:
        """Move the rows that still grow, at most so many, to the front; nothing waits for them.

        Completions stay on their lines.  One layer's keys for `rows` rows are copied at a time.
        """
        of_draw = self.growing
        chosen = of_draw.is_done.argsort(stable=True)[:rows]
        of_rows = (self.padding, of_draw.lines, of_draw.is_done, of_draw.tokens)
        for tensor in (*self.keys, *self.values, *of_rows):
            tensor[:rows] = tensor[chosen]
        before = self.sources[chosen]
        self.sources[:rows] = (before[:, None] == before).int().argmax(dim=1)  # the first of each


def empty_batch(
    weights: DecoderWeights,
    rows: int,
    slots: int,
    limit: int,
    *,
    stop_ids: Sequence[int],
    pad_id: int,
) -> Batch:
    """Room for `rows` texts of `slots` tokens, of which `limit` are drawn; every row is done."""
    device, recipe = weights.embedding.device, weights.recipe

    def room(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    def cache(layer: LayerWeights) -> Tensor:
        seen = weights.slots_seen(layer.kind, slots)
        return room(rows, recipe.kv_heads, seen, recipe.head_dim, dtype=weights.dtype)

    counters = room(2, dtype=torch.int32)
    return Batch(
        [cache(layer) for layer in weights.layers],
        [cache(layer) for layer in weights.layers],
        room(rows, dtype=torch.int32),
        room(rows, dtype=torch.int32),
        counters,
        Growing(
            seed=room(1, dtype=torch.int64),
            step=counters[1],
            first_row=room(1, dtype=torch.int64),
            lines=torch.arange(rows, device=device),
            stops=torch.tensor(stop_ids, dtype=torch.int64, device=device),
            pad=pad_id,
            is_done=torch.ones(rows, dtype=torch.int32, device=device),
            tokens=room(rows, dtype=torch.int64),
            written=room(rows, limit, dtype=torch.int64),
            logprobs=room(rows, limit, dtype=torch.float32),
        ),
    )
