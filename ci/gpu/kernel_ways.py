"""Which ways of computing a part are tried, in what order, and what is noted of each."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kernel_layers import PRODUCTS, Layers, Ways, error, seconds, step
from triton.errors import TritonError

from xmlgrpo_rollout.gpu.kernels.products import Tiles
from xmlgrpo_run.files import write_json

KEPT = 3  # of a part's grid, for the other numbers of rows
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
