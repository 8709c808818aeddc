"""Which GGUF files a call makes, and making one: by the converter, or by llama.cpp's quantizer.

A type that is there already, checked and made from this very model, is left alone; a file made
from another model is never overwritten.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from xmlgrpo_exporter.check.check_json import read_check
from xmlgrpo_exporter.check.questions import Comparison
from xmlgrpo_exporter.quants import CONVERTER_TYPES, FILE_TYPES, estimated_bytes
from xmlgrpo_exporter.transformers_model import SourceModel, stored_weights
from xmlgrpo_gguf.probe import run_job
from xmlgrpo_gguf.threads import usable_cores
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import file_sha256, hash_ahead
from xmlgrpo_run.disk import refuse_if_full, require_free

QUANTIZE_TIMEOUT_S = 6 * 3600
WORK = ".work-"


@dataclass(frozen=True, slots=True)
class Export:
    """One call of `gguf`, as the command line says it: which files, and how they are checked."""

    out: Path
    name: str  # the files' names start with it
    quants: tuple[str, ...]
    with_imatrix: bool
    comparison: Comparison

    def path(self, quant: str) -> Path:
        """The file of a type; whatever changes its bytes is part of its name."""
        mark = "-imat" if self.with_imatrix and quant not in CONVERTER_TYPES else ""
        return self.out / f"{self.name}{mark}-{quant}.gguf"


@dataclass(frozen=True, slots=True)
class Plan:
    """What an export has to make."""

    there: dict[str, bool]  # types made from this very model: whether each passed its last check
    todo: tuple[str, ...]
    exact: str  # the type that holds the weights without loss; others are quantized from it
    weights: int

    @property
    def quantized(self) -> tuple[str, ...]:
        """What is to be made by the quantizer."""
        return tuple(quant for quant in self.todo if quant not in CONVERTER_TYPES)


def plan_export(export: Export, source: SourceModel) -> Plan:
    """Decide what is to be made, and whether it can be.

    Raises:
        UserError: a file of another model has the name, one was changed after its check, or the
            disk is too full.
    """
    stored = read_check(export.out)
    same_model = stored.get("model", {}).get("fingerprint") == source.fingerprint
    files = {quant: path for quant in export.quants if (path := export.path(quant)).exists()}
    hash_ahead(files.values(), export.comparison.console)
    there = {}
    for quant, path in files.items():
        entry = stored.get("files", {}).get(path.name)
        if not same_model or not entry:
            raise UserError(
                f"{path} was made from another model or by another tool and is not overwritten; "
                "remove it or give --out"
            )
        if file_sha256(path) != entry["sha256"]:
            raise UserError(f"{path} has changed since it was checked; remove it, or restore it")
        there[quant] = bool(entry["passed"])
    weights, exact = stored_weights(source.folder)
    todo = tuple(quant for quant in export.quants if quant not in there)
    if todo:
        needed = sum(estimated_bytes(quant, weights) for quant in {*todo, exact})
        require_free(export.out, needed, f"GGUF ({', '.join(todo)})")
    return Plan(there, todo, exact, weights)


@contextmanager
def working_folder(out: Path) -> Iterator[Path]:
    """A folder for files that are not finished, on the disk of `out`, which is locked for us."""
    out.mkdir(parents=True, exist_ok=True)
    for left_over in out.glob(f"{WORK}*"):  # of an export that was killed outright
        shutil.rmtree(left_over)
    with TemporaryDirectory(dir=out, prefix=WORK) as work:
        yield Path(work)


def quantize(source: Path, out: Path, quant: str, imatrix: Path | None) -> None:
    """Quantize a GGUF of 16 or 32 bits, with the importance matrix in `imatrix` if there is one.

    Raises:
        UserError: llama.cpp refuses; its words are in the message.
    """
    with TemporaryDirectory(prefix="xmlgrpo-quantize-") as scratch:
        outcome = run_job(
            "quantize",
            source,
            {
                "out": str(out.absolute()),
                "file_type": FILE_TYPES[quant],
                "threads": usable_cores(),
                "imatrix": str(imatrix.absolute()) if imatrix else None,
            },
            scratch=Path(scratch),
            timeout_s=QUANTIZE_TIMEOUT_S,
        )
    if outcome.result is None:
        refuse_if_full(out.parent, quant)
        out.unlink(missing_ok=True)
        raise UserError(f"{quant} could not be made: {outcome.why}")
