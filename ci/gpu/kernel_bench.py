"""How fast the products of a decoding step are, by cuBLAS and by the rollout's own kernels.

    python ci/gpu/kernel_bench.py --out kernels.json              # Gemma 3 1B
    python ci/gpu/kernel_bench.py --out kernels.json --size 4b --rows 64

Each way is first compared with float64, on fresh random inputs and outputs full of NaN, then
timed in a CUDA graph that goes over the weights of 26 layers, which no cache holds.  A part is a
product and what has to be done with it: `qkv` alone, `out` and `down` with the sum and the norms,
`gate_up` with GELU; `mlp` is the last two, `layer` all four in a row, without attention.  The
whole grid is tried with the first number of rows, its best few with the others, and of `mlp` and
`layer` the best of each part.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name in torch's own documentation
import triton
from torch import Tensor
from triton.errors import TritonError

from xmlgrpo_rewards.errors import UserError, run_command
from xmlgrpo_rewards.run_folder import write_json
from xmlgrpo_rollout.kernels.norms import add_norm, gated_gelu
from xmlgrpo_rollout.kernels.products import Tiles, gate_up_gelu, split_product

LAYERS = 26
REPLAYS = 25
KEPT = 3  # of a part's grid, for the other numbers of rows
EPS = 1e-6
# hidden size, width of the MLP, heads and key heads of 256 numbers
SIZES = {"270m": (640, 2048, 4, 1), "1b": (1152, 6912, 4, 1), "4b": (2560, 10240, 8, 4)}
HEAD = 256
PRODUCTS = ("qkv", "out", "gate_up", "down")
# rows, columns, depth, warps, stages, splits
GRID = {
    "gate_up": (
        Tiles(64, 64, 64, 4, 4),
        Tiles(64, 64, 64, 4, 6),
        Tiles(64, 64, 64, 8, 5),
        Tiles(64, 64, 128, 4, 3),
        Tiles(64, 64, 128, 8, 4),
        Tiles(64, 32, 64, 4, 5),
        Tiles(64, 32, 128, 4, 3),
    ),
    "down": (
        Tiles(64, 64, 64, 4, 4, 12),
        Tiles(64, 64, 64, 4, 5, 6),
        Tiles(64, 64, 64, 4, 4, 18),
        Tiles(64, 64, 128, 4, 3, 9),
        Tiles(64, 128, 64, 4, 4, 12),
        Tiles(64, 128, 64, 4, 4, 18),
        Tiles(64, 128, 64, 8, 4, 18),
        Tiles(64, 32, 128, 4, 4, 6),
        Tiles(64, 32, 128, 4, 4, 4),
    ),
    "out": (
        Tiles(64, 32, 64, 4, 4, 4),
        Tiles(64, 32, 64, 4, 4, 8),
        Tiles(64, 64, 64, 4, 4, 4),
        Tiles(64, 64, 64, 4, 4, 8),
        Tiles(64, 16, 128, 4, 4, 2),
        Tiles(64, 32, 128, 4, 3, 4),
    ),
    "qkv": (
        Tiles(64, 16, 128, 4, 5),
        Tiles(64, 16, 64, 4, 8),
        Tiles(64, 16, 128, 8, 5),
        Tiles(64, 32, 128, 8, 5),
    ),
}
Ways = dict[str, Tiles]  # of each product that cuBLAS does not compute


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
    def random(cls, size: str, device: torch.device) -> "Layers":
        """The weights; the buffers have no rows yet."""
        hidden, width, heads, kv_heads = SIZES[size]
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


@dataclass(slots=True)
class Bench:
    """What was measured, and where it is written."""

    layers: Layers
    found: dict[str, Any]
    out: Path
    deadline: float

    def measure(self, part: str, ways: Ways, rows: int) -> float | None:
        """Microseconds a layer, noted and written; None where it failed or time is up."""
        if time.monotonic() > self.deadline:
            self.found["not_tried"] += 1
            return None
        noted: dict[str, Any] = {
            "rows": rows,
            "part": part,
            "ways": {name: asdict(tiles) for name, tiles in ways.items()},
            "told": told(ways),
        }
        micros = None
        try:
            noted["error"] = error(self.layers, part, ways, rows)
            micros = 1e6 * seconds(step(self.layers, part, ways))
        except (TritonError, RuntimeError) as failure:
            noted["failed"] = f"{type(failure).__name__}: {failure}".splitlines()[0]
        if micros is not None:
            names = {"mlp": PRODUCTS[2:], "layer": PRODUCTS}.get(part, (part,))
            size = sum(self.layers.weights[name][0].nbytes for name in names)
            noted |= {"us_per_layer": micros, "gb_per_s": size / micros / 1e3}
        self.found["measured"].append(noted)
        write_json(self.out, self.found)
        return micros

    def best(self, part: str, rows: int) -> list[Tiles]:
        """Of one product, the fastest first; cuBLAS is not among them."""
        ways = [
            (noted["us_per_layer"], noted["ways"][part])
            for noted in self.found["measured"]
            if noted["rows"] == rows and noted["part"] == part and noted["ways"]
            if "failed" not in noted
        ]
        return [Tiles(**tiles) for _, tiles in sorted(ways, key=lambda pair: pair[0])]

    def report(self, part: str, rows: int) -> None:
        """One line a way, the fastest last."""
        chosen = [n for n in self.found["measured"] if n["rows"] == rows and n["part"] == part]
        for noted in sorted(chosen, key=lambda n: -n.get("us_per_layer", float("inf"))):
            begin = f"{rows:4} rows  {part:8} {noted['told']:64}"
            if "failed" in noted:
                print(f"{begin} FAILED {noted['failed']}")
            else:
                print(
                    f"{begin} {noted['us_per_layer']:7.2f} us {noted['gb_per_s']:6.0f} GB/s"
                    f"  error {noted['error']:.2e}"
                )
        print(flush=True)


def told(ways: Ways) -> str:
    """`present` or each product's tiles, in a word."""

    def word(tiles: Tiles) -> str:
        sizes = f"{tiles.rows}x{tiles.columns}x{tiles.depth}"
        return f"{sizes} w{tiles.warps} p{tiles.stages} s{tiles.splits}"

    if len(ways) > 1:
        return f"own {'+'.join(ways)}"
    return next((word(tiles) for tiles in ways.values()), "present")


def tried(bench: Bench, part: str, rows: int, first: int) -> Iterator[Tiles]:
    """The grid, or its best few where it was tried with other rows before."""
    if rows == first:
        yield from GRID[part]
        return
    kept = bench.best(part, first)[:KEPT]
    yield from kept
    if rows > 64:  # half as many programs that each read the weights
        yield from (replace(tiles, rows=128, warps=8) for tiles in kept[:2])


def chain(bench: Bench, part: str, rows: int) -> Ways:
    """The best of each product together."""
    names = PRODUCTS if part == "layer" else PRODUCTS[2:]
    return {name: found[0] for name in names if (found := bench.best(name, rows))}


def run_all(bench: Bench, rows: Sequence[int]) -> None:
    """Measure everything there is time for."""
    for number in rows:
        for part in PRODUCTS:
            bench.measure(part, {}, number)
            for tiles in tried(bench, part, number, rows[0]):
                bench.measure(part, {part: tiles}, number)
            bench.report(part, number)
        for part in ("mlp", "layer"):
            bench.measure(part, {}, number)
            bench.measure(part, chain(bench, part, number), number)
            bench.report(part, number)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--out", type=Path, required=True, help="the JSON file of the results")
    made.add_argument("--size", choices=SIZES, default="1b")
    made.add_argument("--rows", type=int, nargs="+", default=[64, 16, 128, 256, 8])
    made.add_argument("--budget-s", type=float, default=120, help="nothing is begun after that")
    return made


def main() -> int:
    """Measure, print, write; 1 when a kernel failed or was further off than cuBLAS."""
    asked = parser().parse_args()
    if not torch.cuda.is_available():
        raise UserError("kernel_bench.py needs a CUDA GPU, and torch sees none")
    began = time.monotonic()
    torch.manual_seed(0)
    bench = Bench(
        layers=Layers.random(asked.size, torch.device("cuda")),
        found={
            "size": asked.size,
            "gpu": torch.cuda.get_device_name(),
            "versions": {"torch": torch.__version__, "triton": triton.__version__},
            "not_tried": 0,
            "measured": [],
        },
        out=asked.out,
        deadline=began + asked.budget_s,
    )
    with torch.no_grad():
        run_all(bench, asked.rows)
    measured = bench.found["measured"]
    limits = {(n["rows"], n["part"]): 1.2 * n["error"] for n in measured if not n["ways"]}
    # a fifth more is for other roundings, not for a wrong kernel
    wrong = [n for n in measured if n.get("error", 0) > limits[n["rows"], n["part"]]]
    for noted in wrong:
        print(f"WRONG {noted['rows']} rows {noted['part']} {noted['told']}: {noted['error']:.3e}")
    failed = [n for n in measured if "failed" in n]
    print(
        f"{len(measured)} ways, {len(failed)} failed, {len(wrong)} wrong, "
        f"{bench.found['not_tried']} not tried, {time.monotonic() - began:.0f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
