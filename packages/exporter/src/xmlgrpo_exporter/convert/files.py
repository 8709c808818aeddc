"""What is to be made of a model, and making it: convert, then quantize.

A type that is there already, checked and made from this very model, is left alone; a file made
from another model is never overwritten.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from xmlgrpo_exporter.check.record import read_check
from xmlgrpo_exporter.convert.converter import convert
from xmlgrpo_exporter.convert.quants import (
    CONVERTER_TYPES,
    FILE_TYPES,
    estimated_bytes,
)
from xmlgrpo_exporter.convert.staging import stage
from xmlgrpo_exporter.merge.stored_weights import weights_of
from xmlgrpo_gguf.probe import run_task
from xmlgrpo_gguf.threads import usable_cores
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import file_sha256
from xmlgrpo_run.disk import refuse_if_full, require_free
from xmlgrpo_run.screen.growing_file import growing
from xmlgrpo_run.screen.progress import Stage

QUANTIZE_TIMEOUT_S = 6 * 3600
WORK = ".work-"
EXACT = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


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
        failed: those of them that a later check found wanting.
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
    failed: tuple[str, ...]
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
        UserError: a file of another model has the name, one was changed after its check, or the
            disk is too full.
    """
    checked = read_check(out)
    same_model = checked.get("model", {}).get("fingerprint") == fingerprint
    done, failed = [], []
    for quant in quants:
        path = file_path(out, name, quant, with_imatrix=with_imatrix)
        if not path.exists():
            continue
        entry = checked.get("files", {}).get(path.name)
        if not same_model or not entry:
            raise UserError(
                f"{path} was made from another model (or by other means) and is not overwritten; "
                "remove it or give --out"
            )
        if file_sha256(path) != entry["sha256"]:
            raise UserError(f"{path} has changed since it was checked; remove it, or restore it")
        done.append(quant)
        if not entry["passed"]:
            failed.append(quant)
    parameters, dtype = weights_of(model)
    todo = tuple(quant for quant in quants if quant not in done)
    exact = EXACT.get(dtype, "f32")
    if todo:
        needed = sum(estimated_bytes(quant, parameters) for quant in {*todo, exact})
        require_free(out, needed, f"GGUF ({', '.join(todo)})")
    return ExportPlan(
        model=model,
        fingerprint=fingerprint,
        out=out,
        name=name,
        todo=todo,
        done=tuple(done),
        failed=tuple(failed),
        exact=exact,
        parameters=parameters,
        with_imatrix=with_imatrix,
    )


@dataclass(frozen=True, slots=True)
class FileMaker:
    """Writes files of a plan into a working folder; `file_maker` makes one and cleans up after it.

    Attributes:
        plan: what is made.
        tree: the converter's folder.
        staged: the model as the converter reads it.
        work: the working folder, on the same disk as the plan's.
        imatrix: an importance matrix, if there is one.
        console: shows how far a file is.
    """

    plan: ExportPlan
    tree: Path
    staged: Path
    work: Path
    imatrix: Path | None
    console: Console

    def lossless(self) -> Path:
        """The file that others are quantized from, made once."""
        path = self.work / "lossless.gguf"
        if not path.exists():
            self._convert(self.plan.exact, path)
        return path

    def write(self, quant: str) -> Path:
        """The file of a type: by the converter, or by llama.cpp's quantizer from the lossless."""
        path = self.work / f"{quant}.gguf"
        if quant in CONVERTER_TYPES:
            self._convert(quant, path)
            return path
        source = self.lossless()
        with self._growing(f"quantizing to {quant}", path, quant):
            quantize(source, path, quant, self.imatrix)
        return path

    def _convert(self, quant: str, path: Path) -> None:
        with self._growing(f"converting to {quant}", path, quant):
            convert(self.tree, self.staged, path, outtype=quant, name=self.plan.name)

    def _growing(self, words: str, path: Path, quant: str) -> Stage:
        expected = estimated_bytes(quant, self.plan.parameters)
        return growing(self.console, words, expected, lambda: [path])


@contextmanager
def file_maker(
    plan: ExportPlan,
    tree: Path,
    imatrix: Path | None,
    console: Console,
    *,
    prompts_bring_bos: bool,
) -> Iterator[FileMaker]:
    """What is needed to make files, cleaned away at the end.

    Args:
        plan: what is made; its folder is ours alone (`hold`).
        tree: the converter's folder.
        imatrix: an importance matrix, if there is one.
        console: shows how far a file is.
        prompts_bring_bos: see `stage`.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    for left_over in plan.out.glob(f"{WORK}*"):  # of a run that was killed outright
        shutil.rmtree(left_over)
    with TemporaryDirectory(dir=plan.out, prefix=WORK) as work_name:
        work = Path(work_name)
        (work / "staged").mkdir()
        with Stage(console, "completing the tokenizer"):
            staged = stage(plan.model, work / "staged", prompts_bring_bos=prompts_bring_bos)
        yield FileMaker(plan, tree, staged, work, imatrix, console)


def quantize(source: Path, out: Path, quant: str, imatrix: Path | None) -> None:
    """Quantize a lossless GGUF.

    Args:
        source: f32, f16 or bf16.
        out: the file to write.
        quant: a name of `FILE_TYPES`.
        imatrix: an importance matrix, as `imatrix.py` writes it.

    Raises:
        UserError: llama.cpp refuses; its words are in the message.
    """
    with TemporaryDirectory(prefix="xmlgrpo-quantize-") as scratch:
        outcome = run_task(
            "quantize",
            {
                "source": str(source.absolute()),
                "out": str(out.absolute()),
                "file_type": FILE_TYPES[quant],
                "threads": usable_cores(),
                "imatrix": str(imatrix.absolute()) if imatrix else None,
            },
            scratch=Path(scratch),
            file_bytes=source.stat().st_size,
            timeout_s=QUANTIZE_TIMEOUT_S,
        )
    if outcome.result is None:
        refuse_if_full(out.parent, quant)
        out.unlink(missing_ok=True)
        raise UserError(f"{quant} could not be made: {outcome.why}")
