"""What is to be made of a model, and making it: convert, then quantize.

A type that is there already, checked and made from this very model, is left alone; a file made
from another model is never overwritten.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from xmlgrpo_exporter.check_record import read_check
from xmlgrpo_exporter.converter import convert, find_converter
from xmlgrpo_exporter.disk import require_free
from xmlgrpo_exporter.llama import ask_llama, threads
from xmlgrpo_exporter.quant_types import (
    CONVERTER_TYPES,
    FILE_TYPES,
    NEEDS_IMATRIX,
    estimated_bytes,
)
from xmlgrpo_exporter.staging import stage
from xmlgrpo_rewards.errors import UserError

QUANTIZE_TIMEOUT_S = 6 * 3600
WORK = ".work-"
EXACT = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}

Say = Callable[[str], None]
# Watch(words, path, expected_bytes): shows a file growing; the hook is called while it does
Watch = Callable[[str, Path, int], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What will be written.

    Attributes:
        model: the folder that is converted.
        fingerprint: of that folder.
        out: where the files go.
        name: their names start with it.
        todo: types still to be made.
        done: types whose file is there, made from this very model.
        exact: the type that holds the weights without loss; others are quantized from it.
        parameters: number of weights.
        with_imatrix: quantized by an importance matrix.
    """

    model: Path
    fingerprint: str
    out: Path
    name: str
    todo: tuple[str, ...]
    done: tuple[str, ...]
    exact: str
    parameters: int
    with_imatrix: bool

    @property
    def quantized(self) -> tuple[str, ...]:
        """What is to be made by the quantizer."""
        return tuple(quant for quant in self.todo if quant not in CONVERTER_TYPES)

    def path(self, quant: str) -> Path:
        """The file of a type."""
        return file_path(self.out, self.name, quant, with_imatrix=self.with_imatrix)


def file_path(out: Path, name: str, quant: str, *, with_imatrix: bool) -> Path:
    """The file of a type; whatever changes its bytes is part of its name."""
    mark = "-imat" if with_imatrix and quant not in CONVERTER_TYPES else ""
    return out / f"{name}{mark}-{quant}.gguf"


def plan_export(
    model: Path,
    fingerprint: str,
    *,
    out: Path,
    name: str,
    quants: tuple[str, ...],
    with_imatrix: bool,
) -> ExportPlan:
    """Decide what is to be made, and whether it can be.

    Raises:
        UserError: a type needs an importance matrix, a file of another model has the name, or the
            disk is too full.
    """
    blind = [quant for quant in quants if quant in NEEDS_IMATRIX and not with_imatrix]
    if blind:
        raise UserError(
            f"{', '.join(blind)}: llama.cpp does not quantize to so few bits without an importance "
            "matrix; add --imatrix, or take q3_k_m or more"
        )
    checked = read_check(out)
    same_model = checked.get("model", {}).get("fingerprint") == fingerprint
    done = []
    for quant in quants:
        path = file_path(out, name, quant, with_imatrix=with_imatrix)
        if not path.exists():
            continue
        if not same_model or path.name not in checked.get("files", {}):
            raise UserError(
                f"{path} was made from another model (or by other means) and is not overwritten; "
                "remove it or give --out"
            )
        done.append(quant)
    parameters, dtype = weights_of(model)
    todo = tuple(quant for quant in quants if quant not in done)
    exact = EXACT.get(dtype, "f32")
    if todo:
        needed = sum(estimated_bytes(quant, parameters) for quant in {*todo, exact})
        require_free(out, needed, f"GGUF ({', '.join(todo)})")
    return ExportPlan(
        model, fingerprint, out, name, todo, tuple(done), exact, parameters, with_imatrix
    )


def weights_of(model: Path) -> tuple[int, str]:
    """Number of weights and the number type most of them have, from the safetensors' headers.

    Raises:
        UserError: a file is not whole.
    """
    from safetensors import SafetensorError, safe_open

    sizes: dict[str, int] = {}
    for path in sorted(model.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as file:
                for key in file.keys():  # noqa: SIM118 - a safetensors file is no dict
                    tensor = file.get_slice(key)
                    count = 1
                    for length in tensor.get_shape():
                        count *= length
                    sizes[tensor.get_dtype()] = sizes.get(tensor.get_dtype(), 0) + count
        except SafetensorError as error:
            raise UserError(f"{path} is not a whole safetensors file ({error})") from None
    names = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    largest = max(sizes, key=lambda kind: sizes[kind])
    return sum(sizes.values()), names.get(largest, largest)


@contextmanager
def file_writer(
    plan: ExportPlan, imatrix: Path | None, watch: Watch, say: Say
) -> Iterator[Callable[[str, Path], None]]:
    """What is needed to make files, cleaned away at the end.

    Yields:
        A function that writes the file of a type to a path: by the converter for types that are
        not quantized, else by llama.cpp's quantizer from a lossless file, made once.
    """
    tree = find_converter(say)
    plan.out.mkdir(parents=True, exist_ok=True)
    for left_over in plan.out.glob(f"{WORK}*"):  # of a run that was killed outright
        shutil.rmtree(left_over)
    with TemporaryDirectory(dir=plan.out, prefix=WORK) as work_name:
        work = Path(work_name)
        (work / "staged").mkdir()
        staged = stage(plan.model, work / "staged")
        lossless = work / "lossless.gguf"

        def copy_to(quant: str, path: Path) -> None:
            with watch(f"convert to {quant}", path, estimated_bytes(quant, plan.parameters)) as on:
                convert(tree, staged, path, outtype=quant, name=plan.name, on_poll=on)

        def write(quant: str, path: Path) -> None:
            if quant in CONVERTER_TYPES:
                copy_to(quant, path)
                return
            if not lossless.exists():
                copy_to(plan.exact, lossless)
            size = estimated_bytes(quant, plan.parameters)
            with watch(f"quantize to {quant}", path, size) as on_poll:
                quantize(lossless, path, quant, imatrix, on_poll)

        yield write


def quantize(
    source: Path, out: Path, quant: str, imatrix: Path | None, on_poll: Callable[[], None]
) -> None:
    """Quantize a lossless GGUF.

    Args:
        source: f32, f16 or bf16.
        out: the file to write.
        quant: a name of `FILE_TYPES`.
        imatrix: an importance matrix, as `imatrix.py` writes it.
        on_poll: called while it runs.

    Raises:
        UserError: llama.cpp refuses; its words are in the message.
    """
    with TemporaryDirectory(prefix="xmlgrpo-quantize-") as scratch:
        told = ask_llama(
            "quantize",
            {
                "source": str(source.absolute()),
                "out": str(out.absolute()),
                "file_type": FILE_TYPES[quant],
                "threads": threads(),
                "imatrix": str(imatrix.absolute()) if imatrix else None,
            },
            scratch=Path(scratch),
            file_bytes=source.stat().st_size,
            timeout_s=QUANTIZE_TIMEOUT_S,
            on_poll=on_poll,
        )
    if told.result is None:
        out.unlink(missing_ok=True)
        raise UserError(f"{quant} could not be made: {told.why}")
