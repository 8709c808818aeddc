"""How far each quantization type is from its model, and how far a damaged copy: what limits divide.

    python -m bench.cpu.quants                                  # outputs/tiny/merged
    python -m bench.cpu.quants --model FOLDER --types q8_0 q4_k_m
    python -m bench.cpu.quants --model .cache/real-gemma/tuned --out quants.json

Every file goes through the export's own gates, with the type's own limits.  The damaged copies are
of the f16 file, so they are held against the limits of a copy; what they would do under a looser
limit can be read off their distance.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console

from xmlgrpo_exporter.check.check_json import FileCheck
from xmlgrpo_exporter.check.gates import check_file
from xmlgrpo_exporter.check.questions import Comparison, load_questions
from xmlgrpo_exporter.check.reference import answer_questions
from xmlgrpo_exporter.convert.converter import convert, find_converter
from xmlgrpo_exporter.convert.export_plan import quantize
from xmlgrpo_exporter.convert.staging import stage
from xmlgrpo_exporter.quants import CONVERTER_TYPES, parse_quants
from xmlgrpo_exporter.transformers_model import hash_model, stored_weights
from xmlgrpo_gguf.header import Tensor, read_header
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import RunFolder

TYPES = "f16 bf16 q8_0 q6_k q5_k_m q5_0 q4_k_m q4_0 iq4_xs q3_k_m q2_k"
TIMEOUT_S = 3600
ROW = "{:18} {:>6} {:>9} {:>9} {:>7} {:>9}  {}"


def main() -> int:
    """Make the files, put each through the gates, print a line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("outputs/tiny/merged"))
    parser.add_argument("--types", nargs="+", default=[TYPES], help=f"default: {TYPES}")
    parser.add_argument("--data", type=Path, help="questions, as for xmlgrpo-export check")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--out", type=Path, help="a JSON file of what was measured")
    arguments = parser.parse_args()
    types = parse_quants(arguments.types)
    if not (arguments.model / "tokenizer.json").is_file():
        raise UserError(f"expected a model folder, found none at {arguments.model}; give --model")
    with TemporaryDirectory(prefix="xmlgrpo-quants-") as scratch:
        measure(arguments.model, types, arguments, Path(scratch))
    return 0


def measure(
    model: Path, types: tuple[str, ...], arguments: argparse.Namespace, scratch: Path
) -> None:
    """Print one line a file."""
    console = Console(stderr=True)
    questions = load_questions(arguments.data, RunFolder(model.parent))
    comparison = Comparison(
        questions,
        console,
        prompts=arguments.prompts,
        new_tokens=arguments.new_tokens,
        device="cpu",
        timeout_s=TIMEOUT_S,
    )
    reference = answer_questions(hash_model(model, console), comparison)
    weights, _ = stored_weights(model)
    print(f"{weights:,} weights, {questions.source}")
    print(ROW.format("file", "bits", "mean KL", "worst KL", "top-1", "identical", "gates"))

    told: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "weights": weights,
        "questions": questions.source,
        "files": {},
    }

    def judge(label: str, path: Path) -> None:
        found = check_file(path, reference)
        bits = f"{8 * path.stat().st_size / weights:.2f}"
        print(ROW.format(label, bits, *numbers(found)), flush=True)
        told["files"][label] = found.as_json()
        if arguments.out:
            write_json(arguments.out, told)

    tree = find_converter(console)
    staged = stage(model, scratch / "staged", prompts_have_bos=reference.prompts_have_bos)
    exact = scratch / "exact.gguf"
    for outtype, path in (("f32", exact), ("f16", scratch / "f16.gguf")):
        convert(tree, staged, path, outtype, "m")
    for quant in types:
        path = scratch / f"{quant}.gguf"
        if quant not in CONVERTER_TYPES:
            quantize(exact, path, quant, None)
        elif not path.is_file():
            convert(tree, staged, path, quant, "m")
        judge(quant, path)
        if quant != "f16":
            path.unlink()
    for label, damage in DAMAGES.items():
        with damaged(scratch / "f16.gguf", damage) as path:
            judge(label, path)


def numbers(found: FileCheck) -> tuple[str, ...]:
    """The distance, the identical replies, and the gates that refuse the file."""
    gates = {gate.name: gate for gate in found.gates}
    failed = " ".join(name for name, gate in gates.items() if not gate.passed)
    if "distance" not in gates:
        return ("", "", "", "", failed)
    distance, greedy = gates["distance"].found, gates["greedy"].found
    kl = [distance["mean_kl"], distance["worst_kl"]]
    return (
        *("-" if value is None else f"{value:.2g}" for value in kl),
        f"{distance['top1']:.1%}",
        f"{greedy['identical']}/{greedy['prompts']}",
        failed or "pass",
    )


# --- damages: each changes the f16 file in place -------------------------------------------------
Weights = Callable[[str], Any]  # name of a tensor -> a writable view of its weights


def zero_queries(weights: Weights) -> None:
    """One attention matrix is all zeros."""
    weights("blk.1.attn_q.weight")[:] = 0


def swap_gate_and_up(weights: Weights) -> None:
    """Two matrices of the same shape stand in each other's place."""
    gate, up = weights("blk.1.ffn_gate.weight"), weights("blk.1.ffn_up.weight")
    gate[:], up[:] = up.copy(), gate.copy()


def norm_without_one(weights: Weights) -> None:
    """Gemma stores a norm's weight less one; one norm is taken as it is stored."""
    weights("blk.1.attn_norm.weight")[:] -= 1


def shift_rows(weights: Weights) -> None:
    """One matrix begins a row late, as after a wrong offset."""
    down = weights("blk.1.ffn_down.weight")
    down[1:] = down[:-1].copy()


def one_weight_in_a_thousand(weights: Weights) -> None:
    """A thousandth of one matrix is replaced by its largest weight."""
    down = weights("blk.1.ffn_down.weight").reshape(-1)
    down[::1000] = np.abs(down).max()


DAMAGES: dict[str, Callable[[Weights], None]] = {
    "f16 queries zero": zero_queries,
    "f16 gate<->up": swap_gate_and_up,
    "f16 norm - 1": norm_without_one,
    "f16 rows shifted": shift_rows,
    "f16 1 in 1000": one_weight_in_a_thousand,
}


@contextmanager
def damaged(path: Path, damage: Callable[[Weights], None]) -> Iterator[Path]:
    """A copy of the file with a damage done to it."""
    copy = Path(shutil.copyfile(path, path.with_name("damaged.gguf")))
    tensors = {tensor.name: tensor for tensor in read_header(copy).tensors}
    damage(lambda name: _view(copy, tensors[name]))
    yield copy
    copy.unlink()


def _view(path: Path, tensor: Tensor) -> Any:
    dtype = {0: np.float32, 1: np.float16}[tensor.type_id]
    shape = tensor.shape[::-1]  # a GGUF names the innermost axis first
    return np.memmap(path, dtype=dtype, mode="r+", offset=tensor.start, shape=shape)


if __name__ == "__main__":
    run_command(main)
