"""One layer's products of a decoding step over the weights of many, by cuBLAS and by our kernels.

`kernel_bench.py` says what a part is; here it is computed, compared with float64 and timed.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name in torch's own documentation
from torch import Tensor

from xmlgrpo_rollout.gpu.kernels.norms import add_norm, gated_gelu
from xmlgrpo_rollout.gpu.kernels.products import Tiles, gate_up_gelu, split_product

LAYERS = 26
REPLAYS = 25
EPS = 1e-6
HEAD = 256
PRODUCTS = ("qkv", "out", "gate_up", "down")
Shape = tuple[int, int, int, int]
"""Hidden size, width of the MLP, heads and key heads of 256 numbers."""
Ways = dict[str, Tiles]
"""Of each product that cuBLAS does not compute."""


@dataclass(slots=True)
class Layers:
    """Random weights of every layer, and the buffers of a step of `rows` rows."""

    weights: dict[str, list[Tensor]]
    norms: list[tuple[Tensor, Tensor]]
    normed: Tensor
    mixed: Tensor
    hidden: Tensor
    gated: Tensor

    @classmethod
    def random(cls, shape: Shape, device: torch.device) -> "Layers":
        """The weights; the buffers have no rows yet."""
        hidden, width, heads, kv_heads = shape
        shapes = {
            "qkv": ((heads + 2 * kv_heads) * HEAD, hidden),
            "out": (hidden, heads * HEAD),
            "gate_up": (2 * width, hidden),
            "down": (hidden, width),
        }
        made = {"dtype": torch.bfloat16, "device": device}
        return cls(
            weights={
                name: [
                    torch.randn(shape, **made).mul_(shape[1] ** -0.5)  # type: ignore[call-overload]  # torch's overloads do not know a dict
                    for _ in range(LAYERS)
                ]
                for name, shape in shapes.items()
            },
            norms=[
                (torch.rand(hidden, device=device) + 0.5, torch.rand(hidden, device=device) + 0.5)
                for _ in range(LAYERS)
            ],
            normed=torch.empty(0, hidden, **made),  # type: ignore[call-overload]  # as above
            mixed=torch.empty(0, heads * HEAD, **made),  # type: ignore[call-overload]  # as above
            hidden=torch.empty(0, hidden, **made),  # type: ignore[call-overload]  # as above
            gated=torch.empty(0, width, **made),  # type: ignore[call-overload]  # as above
        )

    def fill(self, rows: int) -> None:
        """New buffers with random numbers."""
        for name in ("normed", "mixed", "hidden", "gated"):
            old = getattr(self, name)
            setattr(self, name, torch.randn_like(old.new_empty(rows, old.shape[1])))


def product(layers: Layers, name: str, values: Tensor, ways: Ways) -> Callable[[int], Tensor]:
    """A function of the layer: the product, or its parts in one buffer."""
    weights, tiles = layers.weights[name], ways.get(name)
    if tiles is None:
        return lambda layer: F.linear(values, weights[layer])
    dtype = torch.float32 if tiles.splits > 1 else values.dtype
    shape = (tiles.splits, len(values), weights[0].shape[0])
    parts = torch.full(shape, float("nan"), dtype=dtype, device=values.device)

    def own(layer: int) -> Tensor:
        split_product(values, weights[layer], parts, tiles)
        return parts if tiles.splits > 1 else parts[0]

    return own


def step(layers: Layers, part: str, ways: Ways) -> Callable[[int], Tensor]:
    """A function that computes a part for one layer and gives what the next kernel reads."""
    weights, gate_up_tiles = layers.weights, ways.get("gate_up")
    hidden, normed, gated = layers.hidden, layers.normed, layers.gated
    qkv = product(layers, "qkv", normed, ways)
    out = product(layers, "out", layers.mixed, ways)
    down = product(layers, "down", gated, ways)

    def norm(added: Tensor, layer: int) -> Tensor:
        after, before = layers.norms[layer]
        add_norm(added, after, hidden, before, normed, EPS)
        return normed

    def gate_up(layer: int) -> Tensor:
        if gate_up_tiles is None:
            gated_gelu(F.linear(normed, weights["gate_up"][layer]), gated)
        else:
            gate_up_gelu(normed, weights["gate_up"][layer], gated, gate_up_tiles)
        return gated

    def mlp(layer: int) -> Tensor:
        gate_up(layer)
        return norm(down(layer), layer)

    def whole(layer: int) -> Tensor:
        qkv(layer)
        norm(out(layer), layer)
        return mlp(layer)

    steps: dict[str, Callable[[int], Tensor]] = {
        "qkv": qkv,
        "out": lambda layer: norm(out(layer), layer),
        "gate_up": gate_up,
        "down": lambda layer: norm(down(layer), layer),
        "mlp": mlp,
        "layer": whole,
    }
    return steps[part]


def exact(layers: Layers, part: str, layer: int) -> Tensor:
    """In float64, with no rounding on the way, what `step` computes."""
    hidden = layers.hidden.double()

    def times(values: Tensor, name: str) -> Tensor:
        return values.double() @ layers.weights[name][layer].double().T

    def normed(values: Tensor, weight: Tensor) -> Tensor:
        return values * (values.square().mean(1, keepdim=True) + EPS).rsqrt() * weight

    def norm(added: Tensor) -> Tensor:
        nonlocal hidden
        after, before = layers.norms[layer]
        hidden = hidden + normed(added, after)
        return normed(hidden, before)

    def gate_up(values: Tensor) -> Tensor:
        gate, up = times(values, "gate_up").chunk(2, dim=1)
        return F.gelu(gate, approximate="tanh") * up

    if part == "qkv":
        return times(layers.normed, "qkv")
    if part == "gate_up":
        return gate_up(layers.normed)
    if part == "down":
        return norm(times(layers.gated, "down"))
    if part == "mlp":
        return norm(times(gate_up(layers.normed), "down"))
    after_attention = norm(times(layers.mixed, "out"))
    if part == "out":
        return after_attention
    return norm(times(gate_up(after_attention), "down"))


def error(layers: Layers, part: str, ways: Ways, rows: int) -> float:
    """||result - exact|| / ||exact|| of the last layer.

    Raises:
        RuntimeError: something was not written, or a second run on the same inputs gave other
            bits.
    """
    results = []
    layers.fill(rows)
    begun = {name: getattr(layers, name).clone() for name in ("normed", "hidden", "gated")}
    expected = exact(layers, part, LAYERS - 1)
    for _ in range(2):
        for name, values in begun.items():
            getattr(layers, name).copy_(values)
        if part in {"gate_up", "mlp", "layer"}:
            layers.gated.fill_(float("nan"))
        if part in {"out", "down", "layer"}:  # in `layer`, nothing reads what qkv makes of it
            layers.normed.fill_(float("nan"))
        results.append(step(layers, part, ways)(LAYERS - 1).clone())
    if not torch.equal(*results):
        raise RuntimeError("two runs differ, or left something unwritten")
    return float((results[0].double() - expected).norm() / expected.norm())


def seconds(run: Callable[[int], Any]) -> float:
    """Median of a replay of all layers, over the number of layers."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own gap
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for layer in range(LAYERS):
            run(layer)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for layer in range(LAYERS):
            run(layer)
    for _ in range(3):
        graph.replay()
    taken: list[float] = []
    for _ in range(REPLAYS):
        begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's own gap
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's own gap
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        taken.append(begin.elapsed_time(end))
    return float(statistics.median(taken)) / 1000 / LAYERS
