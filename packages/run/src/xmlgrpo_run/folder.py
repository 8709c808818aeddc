"""A run is a folder: the names of what stands in it, and its manifest.

Trainer, evaluator and exporter do not import each other: they meet here.  The manifest is written
last, to a temporary name that is then renamed, so its presence means that training finished.
"""

import difflib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError

MANIFEST_FORMAT = 1
OUTPUTS = Path("outputs")
NAMED_RUNS = 10  # of those there are, in the error about one that is not
RUN_NAME = re.compile(r"\w[\w.+=-]*")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of one run, whether or not they exist yet."""

    root: Path

    @property
    def called(self) -> str:
        """What `RUN=` and `--run` take for it: its name under outputs/, or its folder."""
        if self.root.parent == OUTPUTS:
            return self.root.name
        return str(self.root) if len(self.root.parts) > 1 else f".{os.sep}{self.root}"

    @property
    def config(self) -> Path:
        """The resolved configuration, every default written out."""
        return self.root / "config.yaml"

    @property
    def manifest(self) -> Path:
        """Versions, commit, seed, base model, data hash and held-out result; written last."""
        return self.root / "manifest.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line; a step's lines are merged, and a key's last value counts."""
        return self.root / "metrics.jsonl"

    @property
    def holdout(self) -> Path:
        """Held-out results before, during and after training, with every reply."""
        return self.root / "holdout"

    @property
    def checkpoints(self) -> Path:
        """The trainer's checkpoints, each with a list of its files that is written last."""
        return self.root / "checkpoints"

    @property
    def adapter(self) -> Path:
        """`adapter_config.json`, `adapter_model.safetensors` and the tokenizer."""
        return self.root / "adapter"

    @property
    def merged(self) -> Path:
        """The adapter merged into the 16-bit (or 32-bit) base, with tokenizer."""
        return self.root / "merged"

    @property
    def gguf(self) -> Path:
        """The GGUF files and what was checked of them."""
        return self.root / "gguf"

    @property
    def eval(self) -> Path:
        """Results of `make eval`, one file a model and task."""
        return self.root / "eval"

    @property
    def hub(self) -> Path:
        """What is staged for the Hub."""
        return self.root / "hub"

    @property
    def curves(self) -> Path:
        """The plot of the training curves."""
        return self.root / "curves.png"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.root / "report.html"

    def require_something(self) -> None:
        """See that something is there: a run, finished or not, or a folder of files.

        Raises:
            UserError: there is none, or an empty one; names the nearest run and those there are.
        """
        empty = self.root.is_dir()
        if empty and any(not entry.name.startswith(".") for entry in self.root.iterdir()):
            return
        what = f"{self.root} is an empty folder, not a run" if empty else f"no run at {self.root}"
        raise UserError(f"{what}{_runs_there_are(self.root.name)}")

    def read_manifest(self) -> dict[str, Any]:
        """The manifest of a finished run.

        Raises:
            UserError: the folder is missing, training has not finished, or the manifest is not
                one that this version reads.
        """
        self.require_something()
        if not self.manifest.is_file():
            raise UserError(
                f"{self.root} has no manifest.json, so its training has not finished; run the same "
                "training command again to continue it"
            )
        try:
            manifest = json.loads(self.manifest.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{self.manifest} is not JSON ({error}); restore or retrain") from None
        version = manifest.get("format") if isinstance(manifest, dict) else None
        if version != MANIFEST_FORMAT:
            raise UserError(
                f"{self.manifest}: expected format {MANIFEST_FORMAT}, found {version!r}; it was "
                "written by another version of xmlgrpo"
            )
        return dict(manifest)


def run_root(name: str) -> Path:
    """The folder of the run called `name`: a plain name stands under `outputs/`, a path as it is.

    A folder that is there is taken as it is.  A new one must have a name that make and a shell
    take for one word, and may lie outside of the working folder only by its full path.

    Raises:
        UserError: the name is empty or could not be a folder's.
    """
    if not name.strip() or "\0" in name:
        raise UserError(f"RUN: expected a name or a folder, got {name!r}")
    try:
        path = Path(name).expanduser()
        is_path = os.sep in name or path.is_absolute()
        root = path if is_path else OUTPUTS / path
        is_there = root.is_dir()
    except (OSError, RuntimeError) as error:  # too long, not to be looked at; no such user's home
        why = getattr(error, "strerror", None) or error
        raise UserError(f"RUN: expected a name or a folder, got {name[:80]!r}: {why}") from None
    if is_there and path.name and (is_path or path.name != ".."):
        return root
    if ".." in path.parts and not path.is_absolute():
        raise UserError(
            f"RUN: {name!r} leads out of the working folder; expected a name, whose run stands "
            f"under outputs/, or the full path {str(path.resolve())!r}"
        )
    if not RUN_NAME.fullmatch(path.name):
        raise UserError(
            "RUN: expected a folder's name of letters, digits and . _ + = - with a letter, a digit "
            f"or _ first, got {name!r}"
        )
    return root


def find_run(name: str) -> RunFolder:
    """The run called `name`, as `run_root` reads it; every command that needs one asks here.

    Raises:
        UserError: there is none; names the nearest run and those there are.
    """
    run = RunFolder(run_root(name))
    run.require_something()
    return run


def _runs_there_are(wanted: str) -> str:
    """The nearest name and the known ones, in words that end a sentence."""
    runs = {path.parent.name: False for path in OUTPUTS.glob("*/config.yaml")}
    runs |= {path.parent.name: True for path in OUTPUTS.glob("*/manifest.json")}
    if not runs:
        return "; train one first: make train"
    near = difflib.get_close_matches(wanted, runs, n=1, cutoff=0.5)
    shown = [name if done else f"{name} (not finished)" for name, done in sorted(runs.items())]
    more = f" and {len(shown) - NAMED_RUNS} more" if len(shown) > NAMED_RUNS else ""
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"{hint} Runs in {OUTPUTS}: {', '.join(shown[:NAMED_RUNS])}{more}"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UserError: missing, unreadable or not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"expected {path}, found none; check the folder's name") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def write_json(path: Path, value: Any) -> None:
    """Write `value` to a temporary name beside `path`, then rename: never half a file."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` to a temporary name beside `path`, then rename: never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
