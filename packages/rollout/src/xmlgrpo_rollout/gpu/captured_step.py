"""Decoding steps of a text model on a GPU, over tensors that stay where they are.

Nothing in a step depends on a number that only the host knows: how long the texts are, which
rows are done and what was drawn all lie in device memory.  So a step is captured once as a CUDA
graph and replayed for every token, whatever the prompts.  Where finished rows leave, there are
smaller steps beside the one for all rows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from xmlgrpo_rollout.engine import Sampling, filtered
from xmlgrpo_rollout.gpu import HEAD, NOISE, Ways, rows_for
from xmlgrpo_rollout.gpu.batch import Batch, empty_batch
from xmlgrpo_rollout.gpu.kernels.attention import (
    SharedPrompts,
    SplitRoom,
    attend,
    attend_token,
)
from xmlgrpo_rollout.gpu.kernels.draw import DrawRoom, draw
from xmlgrpo_rollout.gpu.kernels.early import can_launch_early
from xmlgrpo_rollout.gpu.kernels.keys import store_token
from xmlgrpo_rollout.gpu.kernels.norms import add_norm, embed_norm, gated
from xmlgrpo_rollout.gpu.kernels.products import gated_product, split_product, tiles_for
from xmlgrpo_rollout.gpu.kernels.tile_draw import TileRoom, draw_of_head, draw_of_logits
from xmlgrpo_rollout.int8 import linear
from xmlgrpo_rollout.weights import DecoderWeights, LayerWeights, Rope

WARM_UP_STEPS = 2  # Triton compiles and cuBLAS chooses before a capture, not in it


class Step:
    """One token more for every row of a batch.

    Axes: R rows, C hidden size, N heads, D head size, I width of the MLP, V vocabulary.

    Args:
        batch: whose rows are computed, those that are done as well.
        larger: a graph that never runs at the same time, whose memory this one's may use for
            what it needs in passing, as the logits.

    Attributes:
        rows: how many.
        batch: theirs.
        tiles: of the products that cuBLAS does not compute, by their names.
        graph: None without a GPU.
    """

    def __init__(
        self,
        weights: DecoderWeights,
        rope: Rope,
        batch: Batch,
        sampling: Sampling,
        ways: Ways,
        *,
        larger: torch.cuda.CUDAGraph | None = None,
    ) -> None:
        self.rows, self.batch = batch.rows, batch
        self._weights, self._rope, self._sampling, self._ways = weights, rope, sampling, ways
        rows = batch.rows
        device, number_type, recipe = weights.embedding.device, weights.dtype, weights.recipe
        size, hidden = recipe.head_dim, weights.embedding.shape[1]

        def room(*shape: int, dtype: torch.dtype = number_type) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

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
        self.tiles = {name: chosen for name, chosen in tiles.items() if chosen is not None}
        self._parts = {
            name: room(
                *(chosen.splits, rows, getattr(first, name).shape[0]),
                dtype=torch.float32 if chosen.splits > 1 else number_type,
            )
            for name, chosen in self.tiles.items()
            if name not in {"gate_up", "head"}
        }
        self.graph = self._captured(larger) if device.type == "cuda" else None

    def run(self) -> None:
        """Read the newest token of every row and draw the next one."""
        if self.graph is None:
            self._compute()
        else:
            self.graph.replay()

    def draw(self, logits_R_V: Tensor) -> None:
        """Draw each row's next token from the logits that it had, and write it down."""
        sampling, growing = self._sampling, self.batch.growing
        if self._sums is not None:
            draw_of_logits(logits_R_V, sampling.temperature, growing, self._sums, early=self._early)
        elif self._noise is not None:
            chosen = filtered(logits_R_V, sampling) if sampling.forbids else None
            draw(logits_R_V, chosen, sampling.temperature, growing, self._noise)

    def _captured(self, larger: torch.cuda.CUDAGraph | None) -> torch.cuda.CUDAGraph:
        """The graph; a rollout that is running goes on as if nothing had been computed."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own gap
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            before = [tensor.clone() for tensor in self.batch.moved_on]
            for _ in range(WARM_UP_STEPS):
                self._compute()
                for tensor, kept in zip(self.batch.moved_on, before, strict=True):
                    tensor.copy_(kept)
        torch.cuda.current_stream().wait_stream(stream)
        graph, pool = torch.cuda.CUDAGraph(), None if larger is None else larger.pool()
        # of this thread only: another one may be talking to another GPU
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self._compute()
        return graph

    def _compute(self) -> None:
        weights, hidden, normed = self._weights, self._hidden_R_C, self._normed_R_C
        layers, recipe, early = weights.layers, weights.recipe, self._early
        embed_norm(
            self.batch.growing.tokens,
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
            if "gate_up" in self.tiles:
                tiles, activation = self.tiles["gate_up"], recipe.activation
                gated_product(
                    normed, layer.gate_up, self._gated_R_I, tiles, activation, early=early
                )
            else:
                gate_up = linear(normed, layer.gate_up, layer.biases.get("gate_up"))
                gated(gate_up, self._gated_R_I, recipe.activation)
            mapped = self._product("down", self._gated_R_I, layer)
            add_norm(mapped, layer.after_mlp, hidden, next_norm, normed, recipe, early=early)
        self._draw_next()
        self.batch.counters.add_(1)

    def _attend(self, number: int, layer: LayerWeights) -> Tensor:
        recipe, rope = self._weights.recipe, self._rope[layer.table]
        batch = self.batch
        cache = (batch.keys[number], batch.values[number])
        joint = self._product("qkv", self._normed_R_C, layer)
        mixed = self._mixed_R_ND
        places = (batch.at, batch.padding)
        state = (*cache, *places, batch.growing.is_done, self._splits, mixed)
        step, early = batch.growing.step, self._early
        shared = SharedPrompts(batch.sources, step) if self._ways.shared_prompt else None
        if self._ways.one_attention:
            attend_token(joint, layer, rope, *state, recipe, shared=shared, early=early)
        else:
            query = self._query_R_N_D
            store_token(joint, layer, rope, *places, query, *cache, recipe, early=early)
            attend(query, *state, recipe.score_factor, shared=shared, early=early)
        return self._product("attention_out", self._mixed_R_ND, layer)

    def _product(self, name: str, values_R_K: Tensor, layer: LayerWeights) -> Tensor:
        """(rows, N), or (splits, rows, N) of which the norm that follows makes the sum."""
        weights_N_K, bias_N = getattr(layer, name), layer.biases.get(name)
        if name not in self.tiles:
            return linear(values_R_K, weights_N_K, bias_N)
        parts, tiles = self._parts[name], self.tiles[name]
        split_product(values_R_K, weights_N_K, parts, tiles, early=self._early)
        if bias_N is not None:
            parts[0].add_(bias_N)
        return parts if len(parts) > 1 else parts[0]

    def _draw_next(self) -> None:
        weights, normed = self._weights, self._normed_R_C
        if self._sums is None or "head" not in self.tiles:
            self.draw(weights.logits(normed))
            return
        draw_of_head(
            normed,
            weights.head,
            weights.recipe.logit_divisor,
            self._sampling.temperature,
            self.batch.growing,
            self._sums,
            self.tiles["head"],
            early=self._early,
        )


class Decoder:
    """`rows` completions that grow side by side, by at most `sampling.max_new_tokens` tokens.

    Axes: R rows, V vocabulary.

    Args:
        ways: how a step is computed, and whether finished rows leave.

    Attributes:
        rows: how many; those beyond the ones in use are marked as done.
        slots: the most tokens of a row, prompt and completion.
        sampling: how tokens are chosen.
        batch: of all rows.
        steps: by their numbers of rows, those that were needed so far.  Each has the front rows of
            `batch`, so that a smaller one takes little more memory than its graph.
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
        self.rows, self.slots, self.sampling = rows, slots, sampling
        self._weights, self._rope, self._ways = weights, rope, ways
        limit = sampling.max_new_tokens
        self.batch = empty_batch(weights, rows, slots, limit, stop_ids=stop_ids, pad_id=pad_id)
        self._begun = 0
        self.steps: dict[int, Step] = {}
        self._now = self._step_of(rows)

    def begin(self, logits_R_V: Tensor, used: int, live: int, *, seed: int, first_row: int) -> None:
        """Draw the first token of each row; its prompt is in the cache already.

        Args:
            logits_R_V: after the prompts, for the first `live` rows.
            used: slots that are filled.
            live: rows in use.
            first_row: the number of this batch's first row among the rollout's rows.
        """
        growing, counters = self.batch.growing, self.batch.counters
        torch.arange(self.rows, out=growing.lines)
        growing.is_done.fill_(1)
        growing.is_done[:live] = 0
        growing.written.fill_(growing.pad)
        growing.logprobs.zero_()
        counters.copy_(torch.tensor([used, 0]))
        growing.seed.fill_(seed)
        growing.first_row.fill_(first_row)
        self._begun += 1
        self._now = self._step_of(self._rows_for(live, self.rows))
        everything = logits_R_V.new_zeros(self._now.rows, logits_R_V.shape[1])
        everything[:live] = logits_R_V
        self._now.draw(everything)
        growing.step.add_(1)

    def step(self) -> None:
        """Read the newest token of every row and draw the next one."""
        self._now.run()

    def growing(self) -> int:
        """How many rows need another token; waits for the device."""
        return self._now.rows - int(self._now.batch.growing.is_done.sum())

    def let_leave(self, growing: int) -> None:
        """Go on with fewer rows, where `growing` are few enough."""
        rows = self._rows_for(growing, self._now.rows)
        if rows < self._now.rows:
            self._now.batch.bring_forward(rows)
            self._now = self._step_of(rows)

    def _rows_for(self, growing: int, rows: int) -> int:
        # a decoder that is used once does not save what the smaller steps' capture takes
        return rows_for(growing, rows) if self._ways.leave and self._begun > 1 else rows

    def _step_of(self, rows: int) -> Step:
        if rows not in self.steps:
            batch, largest = self.batch.front(rows), self.steps.get(self.rows)
            graph = None if largest is None else largest.graph
            of_all = (self._weights, self._rope, batch, self.sampling, self._ways)
            self.steps[rows] = Step(*of_all, larger=graph)
        return self.steps[rows]
