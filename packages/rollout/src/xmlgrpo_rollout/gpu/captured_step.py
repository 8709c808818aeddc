"""One decoding step of a text model on a GPU, over tensors that stay where they are.

Nothing in a step depends on a number that only the host knows: how long the texts are, which
rows are done and what was drawn all lie in device memory.  So a step is captured once as a CUDA
graph and replayed for every token, whatever the prompts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from xmlgrpo_rollout.engine import Sampling, filtered
from xmlgrpo_rollout.gpu import HEAD, NOISE, Ways
from xmlgrpo_rollout.gpu.kernels.attention import SplitRoom, attend, attend_token
from xmlgrpo_rollout.gpu.kernels.draw import DrawRoom, Growing, draw
from xmlgrpo_rollout.gpu.kernels.early import can_launch_early
from xmlgrpo_rollout.gpu.kernels.keys import store_token
from xmlgrpo_rollout.gpu.kernels.norms import add_norm, embed_norm, gated
from xmlgrpo_rollout.gpu.kernels.products import gated_product, split_product, tiles_for
from xmlgrpo_rollout.gpu.kernels.tile_draw import TileRoom, draw_of_head, draw_of_logits
from xmlgrpo_rollout.int8 import linear
from xmlgrpo_rollout.weights import DecoderWeights, LayerWeights, Rope

WARM_UP_STEPS = 2  # Triton compiles and cuBLAS chooses before a capture, not in it


class Decoder:
    """`rows` completions that grow side by side, by at most `sampling.max_new_tokens` tokens.

    Axes: R rows, C hidden size, N heads, K key heads, D head size, S slots, T tokens, V vocabulary.

    Attributes:
        rows: how many; those beyond the ones in use are marked as done.
        slots: the most tokens of a row, prompt and completion.
        sampling: how tokens are chosen.
        ways: how a step is computed.
        keys, values: a layer's cache each, (R, K, S, D); a sliding layer's has its window's slots.
        padding_R: padding tokens before each row's text.
        is_done_R: 1 for a row that needs no more tokens.
        written_R_T, logprobs_R_T: the completions, and each token's log-probability.
    """

    def __init__(
        self,
        weights: DecoderWeights,
        rope: Rope,
        rows: int,
        slots: int,
        sampling: Sampling,
        *,
        stop_ids: Sequence[int],
        pad_id: int,
        ways: Ways,
    ) -> None:
        self.rows, self.slots, self.sampling, self.ways = rows, slots, sampling, ways
        self._weights, self._rope, self._pad_id = weights, rope, pad_id
        device, number_type, recipe = weights.embedding.device, weights.dtype, weights.recipe
        size, hidden = recipe.head_dim, weights.embedding.shape[1]

        def room(*shape: int, dtype: torch.dtype = number_type) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        def cache(layer: LayerWeights) -> Tensor:
            return room(rows, recipe.kv_heads, weights.slots_seen(layer.kind, slots), size)

        self.keys = [cache(layer) for layer in weights.layers]
        self.values = [cache(layer) for layer in weights.layers]
        self.padding_R = room(rows, dtype=torch.int32)
        self.is_done_R = torch.ones(rows, dtype=torch.int32, device=device)
        self.written_R_T = room(rows, sampling.max_new_tokens, dtype=torch.int64)
        self.logprobs_R_T = room(rows, sampling.max_new_tokens, dtype=torch.float32)

        # where the newest token lies, and which token of its completion it is
        self._counters = room(2, dtype=torch.int32)
        self._at, self._step = self._counters[0], self._counters[1]
        self._seed = room(1, dtype=torch.int64)
        self._first_row = room(1, dtype=torch.int64)
        self._tokens_R = room(rows, dtype=torch.int64)
        self._growing = Growing(
            self._seed,
            self._step,
            self._first_row,
            torch.tensor(stop_ids, dtype=torch.int64, device=device),
            pad_id,
            self.is_done_R,
            self._tokens_R,
            self.written_R_T,
            self.logprobs_R_T,
        )
        self._hidden_R_C, self._normed_R_C = room(rows, hidden), room(rows, hidden)
        self._query_R_N_D = room(rows, recipe.heads, size)
        self._mixed_R_ND = room(rows, recipe.heads * size)
        self._gated_R_I = room(rows, weights.layers[0].down.shape[1])
        group = recipe.heads // recipe.kv_heads
        self._splits = SplitRoom(rows, recipe.kv_heads, group, size, device)
        self._early = ways.early and can_launch_early(device)
        draws_noise = ways.draw == NOISE or sampling.forbids
        vocabulary = weights.head.shape[0]
        self._noise = DrawRoom(rows, vocabulary, device) if draws_noise else None
        self._sums = None if draws_noise else TileRoom(rows, vocabulary, device)
        # of the products that cuBLAS does not compute
        first = weights.layers[0]
        tiles = {
            name: tiles_for(
                name,
                getattr(first, name),
                rows,
                is_biased=name in first.biases,
                early=self._early,
            )
            for name in recipe.projections
        }
        if ways.draw == HEAD and not draws_noise:
            tiles["head"] = tiles_for("head", weights.head, rows)
        self._tiles = {name: chosen for name, chosen in tiles.items() if chosen is not None}
        self._parts = {
            name: room(
                *(chosen.splits, rows, getattr(first, name).shape[0]),
                dtype=torch.float32 if chosen.splits > 1 else number_type,
            )
            for name, chosen in self._tiles.items()
            if name not in {"gate_up", "head"}
        }
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            self._capture()

    def begin(self, logits_R_V: Tensor, used: int, live: int, *, seed: int, first_row: int) -> None:
        """Draw the first token of each row; its prompt is in the cache already.

        Args:
            logits_R_V: after the prompts, for the first `live` rows.
            used: slots that are filled.
            live: rows in use.
            first_row: the number of this batch's first row among the rollout's rows.
        """
        self.is_done_R.fill_(1)
        self.is_done_R[:live] = 0
        self.written_R_T.fill_(self._pad_id)
        self.logprobs_R_T.zero_()
        self._counters.copy_(torch.tensor([used, 0]))
        self._seed.fill_(seed)
        self._first_row.fill_(first_row)
        everything = logits_R_V.new_zeros(self.rows, logits_R_V.shape[1])
        everything[:live] = logits_R_V
        self._draw(everything)
        self._step.add_(1)

    def step(self) -> None:
        """Read the newest token of every row and draw the next one."""
        if self._graph is None:
            self._compute()
        else:
            self._graph.replay()

    def growing(self) -> int:
        """How many rows need another token; waits for the device."""
        return self.rows - int(self.is_done_R.sum())

    def _capture(self) -> None:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own gap
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                self._counters.zero_()
                self._compute()
            self._counters.zero_()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # of this thread only: another one may be talking to another GPU
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._compute()
        self._graph = graph

    def _compute(self) -> None:
        weights, hidden, normed = self._weights, self._hidden_R_C, self._normed_R_C
        layers, recipe, early = weights.layers, weights.recipe, self._early
        embed_norm(
            self._tokens_R,
            weights.embedding,
            weights.embedding_scale,
            layers[0].before_attention,
            hidden,
            normed,
            recipe,
            early=early,
        )
        after = [layer.before_attention for layer in layers[1:]] + [weights.final_norm]
        for number, (layer, next_norm) in enumerate(zip(layers, after, strict=True)):
            mixed = self._attend(number, layer)
            norms = (layer.after_attention, hidden, layer.before_mlp)
            add_norm(mixed, *norms, normed, recipe, early=early)
            if "gate_up" in self._tiles:
                tiles, activation = self._tiles["gate_up"], recipe.activation
                gated_product(
                    normed, layer.gate_up, self._gated_R_I, tiles, activation, early=early
                )
            else:
                gate_up = linear(normed, layer.gate_up, layer.biases.get("gate_up"))
                gated(gate_up, self._gated_R_I, recipe.activation)
            mapped = self._product("down", self._gated_R_I, layer)
            add_norm(mapped, layer.after_mlp, hidden, next_norm, normed, recipe, early=early)
        self._draw_next()
        self._counters.add_(1)

    def _attend(self, number: int, layer: LayerWeights) -> Tensor:
        recipe, rope = self._weights.recipe, self._rope[layer.table]
        cache = (self.keys[number], self.values[number])
        joint = self._product("qkv", self._normed_R_C, layer)
        done, mixed = self.is_done_R, self._mixed_R_ND
        state = (*cache, self._at, self.padding_R, done, self._splits, mixed)
        if self.ways.one_attention:
            attend_token(joint, layer, rope, *state, recipe, early=self._early)
        else:
            query, early = self._query_R_N_D, self._early
            places = (self._at, self.padding_R)
            store_token(joint, layer, rope, *places, query, *cache, recipe, early=early)
            attend(query, *state, recipe.score_factor, early=early)
        return self._product("attention_out", self._mixed_R_ND, layer)

    def _product(self, name: str, values_R_K: Tensor, layer: LayerWeights) -> Tensor:
        """(rows, N), or (splits, rows, N) of which the norm that follows makes the sum."""
        weights_N_K, bias_N = getattr(layer, name), layer.biases.get(name)
        if name not in self._tiles:
            return linear(values_R_K, weights_N_K, bias_N)
        parts, tiles = self._parts[name], self._tiles[name]
        split_product(values_R_K, weights_N_K, parts, tiles, early=self._early)
        if bias_N is not None:
            parts[0].add_(bias_N)
        return parts if len(parts) > 1 else parts[0]

    def _draw_next(self) -> None:
        weights, normed = self._weights, self._normed_R_C
        if self._sums is None or "head" not in self._tiles:
            self._draw(weights.logits(normed))
            return
        draw_of_head(
            normed,
            weights.head,
            weights.recipe.logit_divisor,
            self.sampling.temperature,
            self._growing,
            self._sums,
            self._tiles["head"],
            early=self._early,
        )

    def _draw(self, logits_R_V: Tensor) -> None:
        sampling, growing = self.sampling, self._growing
        if self._sums is not None:
            draw_of_logits(logits_R_V, sampling.temperature, growing, self._sums, early=self._early)
        elif self._noise is not None:
            chosen = filtered(logits_R_V, sampling) if sampling.forbids else None
            draw(logits_R_V, chosen, sampling.temperature, growing, self._noise)
