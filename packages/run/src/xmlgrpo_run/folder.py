"""A run is a folder: the names of all that stands in it, and what `--run` means to every command.

Trainer, evaluator and exporter do not import each other: they meet here.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from xmlgrpo_rewards.errors import UserError, did_you_mean
from xmlgrpo_rewards.rows import expanded
from xmlgrpo_run.lock import LOCK, is_held

OUTPUTS = Path("outputs")
MERGE_RECORD = "merge.json"  # in a merged folder: of what, and how it compared
CHECK_RECORD = "check.json"  # beside GGUF files: what the gates found of them
NAMED_RUNS = 10  # of those there are, in the error about one that is not
RUN_NAME = re.compile(r"\w[\w.+=-]*")


class _Entry:
    """A file or folder of a run, by its path from the run's folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __get__(self, run: "RunFolder", _kind: object = None) -> Path:
        return run.root / self.path


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of one run, whether or not they exist yet."""

    root: Path

    # training
    config = _Entry("config.yaml")  # every default written out; later stages read the manifest
    resolved = _Entry("resolved.json")  # what trl and peft made of the configuration
    identity = _Entry("identity.json")  # data, base, versions: a continued run must agree
    lock = _Entry(LOCK)  # held by the process that trains into the folder
    wandb_id = _Entry("wandb-id")
    trackio = _Entry("trackio")  # its database
    tensorboard = _Entry("tensorboard")  # its event files
    unsloth = _Entry(".unsloth")  # what Unsloth compiles
    ended = _Entry("ended.json")  # why an unfinished run has ended, where it could still say so
    metrics = _Entry("metrics.jsonl")  # one object per line; a step's lines are merged
    completions = _Entry("completions")  # some of each step, with their scores
    holdout = _Entry("holdout")  # results with every reply
    holdout_items = _Entry("holdout/items.jsonl")  # the report problems, as rows of the task
    holdout_before = _Entry("holdout/report-before.json")
    holdout_after = _Entry("holdout/report-after.json")
    checkpoints = _Entry("checkpoints")
    best = _Entry("best")  # the adapter with the best validation accuracy so far
    adapter = _Entry("adapter")  # settings, weights and tokenizer
    curves = _Entry("curves.png")
    manifest = _Entry("manifest.json")  # written last: its presence means that training finished

    # what later stages add
    eval = _Entry("eval")  # one result per model and task
    merged = _Entry("merged")  # the adapter in the 16-bit (or 32-bit) base, with tokenizer
    gguf = _Entry("gguf")  # the files, and what was checked of them
    ladder = _Entry("ladder.json")  # every form of the model on the same items
    ladder_plot = _Entry("ladder.png")  # accuracy over size
    report = _Entry("report.html")
    hub = _Entry("hub")
    hub_card = _Entry("hub/README.md")  # the card, as it went up
    dry_run_card = _Entry("hub/dry-run.md")  # as it would go up
    pushed = _Entry("hub/pushed.json")  # where to, and the hash of every file

    def validation(self, step: int) -> Path:
        """The result on the validation problems at one step."""
        return self.holdout / f"validation-{step:05d}.json"

    def completions_of(self, step: int) -> Path:
        """Some completions of one step, with their scores."""
        return self.completions / f"step-{step:05d}.jsonl"

    @property
    def name(self) -> str:
        """The last name of its folder; of `.` and `..`, what these are."""
        named = self.root.name.strip(".")
        return self.root.name if named else self.root.resolve().name

    @property
    def called(self) -> str:
        """What `RUN=` and `--run` take for it: its name under outputs/, or its folder."""
        if self.root.parent == OUTPUTS:
            return self.root.name
        return str(self.root) if len(self.root.parts) > 1 else f".{os.sep}{self.root}"

    def require_something(self) -> None:
        """See that something is there: a run, begun or finished, or a folder of files.

        Raises:
            UserError: there is none, or an empty one; names the nearest run and those there are.
        """
        if is_held(self.lock):  # a training that has begun, and has written nothing yet
            return
        empty = self.root.is_dir()
        if empty and any(not entry.name.startswith(".") for entry in self.root.iterdir()):
            return
        what = f"{self.root} is an empty folder, not a run" if empty else f"no run at {self.root}"
        raise UserError(f"{what}{_runs_there_are(self)}")


def find_run(name: str) -> RunFolder:
    """The run called `name`: the one meaning of `--run` for every command that reads a run.

    A bare name stands under `outputs/`; what holds a separator, begins with `~`, or is `.` or `..`
    is a path.

    Raises:
        UserError: there is none; names the nearest run and those there are.
    """
    run = RunFolder(_root(name))
    if not run.root.is_dir():
        run = run_folder(name)  # says what is wrong with a name that no run could have
    run.require_something()
    return run


def full_path(path: Path) -> Path:
    """The path from the root, without `..`, which another folder's removal would break.

    A link at its end stays one: it is what the user named.
    """
    return path.resolve() if path.name in ("", os.pardir) else path.parent.resolve() / path.name


def model_source(name: str) -> str:
    """What a model or an adapter is loaded from: its folder's full path, or its Hub id as it is.

    The full path means the same to a command that is called from another folder later.

    Raises:
        UserError: it is written as a path, and no folder is there.
    """
    folder = expanded(Path(name), "model")
    if folder.is_dir():
        return str(full_path(folder))
    if name.startswith((".", os.sep, "~")) or name.count("/") > 1:
        raise UserError(f"no model folder at {str(folder.absolute())!r}; check the path")
    return name


def run_folder(name: str) -> RunFolder:
    """The folder to train into, named as `find_run` reads it, whether or not it is there.

    A new one must have a name that make and a shell take for one word, and may lie outside of the
    working folder only by its full path.

    Raises:
        UserError: the name is empty or could not be a folder's.
    """
    root, path = _root(name), Path(name).expanduser()
    if root.is_dir() and path.name not in ("", os.pardir):
        return RunFolder(root)
    if os.pardir in path.parts and not path.is_absolute():
        raise UserError(
            f"RUN: {name!r} leads out of the working folder; expected a name, whose run stands "
            f"under outputs/, or the full path {str(path.resolve())!r}"
        )
    if not RUN_NAME.fullmatch(path.name):
        raise UserError(
            "RUN: expected a folder's name of letters, digits and . _ + = - with a letter, a digit "
            f"or _ first, got {name!r}"
        )
    return RunFolder(root)


def _root(name: str) -> Path:
    if not name.strip() or "\0" in name:
        raise UserError(f"RUN: expected a name or a folder, got {name!r}")
    try:
        path = Path(name).expanduser()
        is_path = os.sep in name or path.is_absolute() or name in (os.curdir, os.pardir)
        root = path if is_path else OUTPUTS / path
        root.is_dir()
    except (OSError, RuntimeError) as error:  # too long, not to be looked at; no such user's home
        why = getattr(error, "strerror", None) or error
        raise UserError(f"RUN: expected a name or a folder, got {name[:80]!r}: {why}") from None
    return root


def _runs_there_are(wanted: RunFolder) -> str:
    """The nearest name and the known ones, in words that end a sentence."""
    runs = {path.parent.name: False for path in OUTPUTS.glob("*/config.yaml")}
    runs |= {path.parent.name: True for path in OUTPUTS.glob("*/manifest.json")}
    if not runs:
        is_word = all(map(RUN_NAME.fullmatch, wanted.called.strip("./").split("/")))
        it = f"it first: make train RUN={wanted.called}" if is_word else None
        return f"; train {it or 'one first: make train'}"
    shown = [name if done else f"{name} (not finished)" for name, done in sorted(runs.items())]
    more = f" and {len(shown) - NAMED_RUNS} more" if len(shown) > NAMED_RUNS else ""
    near = did_you_mean(wanted.root.name, runs, cutoff=0.5) or "."  # names are short
    return f"{near} Runs in {OUTPUTS}: {', '.join(shown[:NAMED_RUNS])}{more}"
