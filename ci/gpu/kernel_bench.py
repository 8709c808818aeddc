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
import time
from pathlib import Path

import torch

from xmlgrpo_rewards.errors import UserError, run_command

# hidden size, width of the MLP, heads and key heads of 256 numbers
SIZES = {"270m": (640, 2048, 4, 1), "1b": (1152, 6912, 4, 1), "4b": (2560, 10240, 8, 4)}


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
    # after parsing: Triton is not everywhere
    import triton  # noqa: PLC0415
    from kernel_layers import Layers  # noqa: PLC0415
    from kernel_ways import Bench, run_all  # noqa: PLC0415

    began = time.monotonic()
    torch.manual_seed(0)
    bench = Bench(
        layers=Layers.random(SIZES[asked.size], torch.device("cuda")),
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
