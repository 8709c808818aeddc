"""The manifest of a run: all that later stages need to know, written when training is over."""

import dataclasses
import os
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args, get_origin, get_type_hints

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import (
    changed_since,
    damage,
    file_hashes,
    model_digest,
    model_files,
    stamps,
)
from xmlgrpo_run.files import read_json, read_sealed, write_sealed
from xmlgrpo_run.folder import CHECK_RECORD, MERGE_RECORD, RunFolder, full_path

MANIFEST_FORMAT = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder outside of the run, which may have moved together with it."""

    path: str  # where it was, absolute
    from_run: str  # the same, as seen from the run's folder

    @classmethod
    def of(cls, path: Path, run: RunFolder) -> Self:
        """The place of `path` as it is written into the manifest of `run`."""
        path = full_path(path.expanduser())
        return cls(str(path), os.path.relpath(path, run.root.resolve()))

    def now(self, run: RunFolder) -> Path | None:
        """Where it is now: where it was, else as seen from the run, else in it; None if gone."""
        name = Path(self.path).name
        for path in (Path(self.path), run.root / self.from_run, run.root / name):
            if path.exists():
                return path
        return None


@dataclass(frozen=True, slots=True)
class Base:
    """The model that was trained from."""

    name: str  # a Hub id, or the folder as the configuration names it
    revision: str | None  # the commit on the Hub; None for the newest and for a folder
    place: Place | None  # the folder; None for a model of the Hub
    dtype: str  # of the weights in training, such as `bfloat16`
    quantized_4bit: bool  # the adapter was trained over 4-bit weights
    model_class: str  # the class of transformers that it was loaded as
    tiny: bool  # it is our own tiny model, made from nothing
    files: dict[str, Any]  # of its folder, each with hash, size and time; empty for the Hub

    @property
    def hub_id(self) -> str | None:
        """Its id on the Hub; None for a folder."""
        return self.name if self.place is None else None

    def folder(self, run: RunFolder) -> Path | None:
        """Its folder as it lies now; None for a model of the Hub, and for one that is gone."""
        return None if self.place is None else self.place.now(run)

    def source(self, run: RunFolder) -> str:
        """What it is loaded from: its Hub id, or its folder as it lies now.

        Raises:
            UserError: the folder is gone, or holds other files than were trained from.
        """
        if self.place is None:
            return self.name
        folder = self.place.now(run)
        if folder is None:
            raise UserError(
                f"the base model of {run.root} is not at {self.place.path} any more; put it back, "
                f"or copy or link it to {run.root / Path(self.place.path).name} (ask and merge "
                "take another one with --base)"
            )
        if wrong := changed_since(folder, self.files):
            raise UserError(
                f"the base model of {run.root} is not the one that was trained from: {wrong}; put "
                "the file back (ask and merge take another base with --base)"
            )
        return str(folder)


def files_of_base(folder: Path) -> dict[str, Any]:
    """What a manifest says of the files of a base model's folder."""
    return stamps(folder, model_files(folder))


@dataclass(frozen=True, slots=True)
class Data:
    """The problems of a run."""

    source: str  # `generated`, `hub` or `json`
    name: str  # the data set's id, the file's name, or that they were made on the spot
    revision: str | None  # the commit of a data set of the Hub
    place: Place | None  # the file of a run on local rows
    sha256: str  # over all problems
    train_rows: int
    validation_rows: int  # they chose the checkpoint
    holdout_rows: int  # the result is of them
    dropped_long: int  # left out because their prompt was too long
    repeated: int  # left out because they were there twice
    faulty: int = 0  # left out because their gold fails the task's own check


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The result on the held-out problems: metric -> its share (`hits`, `total`) or its mean."""

    rows: int
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known about a finished run."""

    run: str  # its name
    finished: str  # when, in UTC
    task: str  # whose problems were trained on
    format_version: int  # of the reply format
    base: Base
    adapter: str  # the digest of what training left in `adapter/`
    backend: str  # `plain` or `unsloth`
    rollout: str  # what drew the completions, such as `graph` or `graph, int8 weights`
    seed: int
    steps: int
    best_step: int  # the one whose adapter was kept
    seconds: float  # spent in steps
    max_prompt_tokens: int
    max_completion_tokens: int  # in training
    max_reply_tokens: int  # to a held-out problem, and so in every evaluation
    data: Data
    rewards: dict[str, float]  # name -> weight
    config: dict[str, Any]  # the configuration, with its defaults
    config_sha256: str
    commit: str | None  # of the code; None where it was not run from its own repository
    dirty: bool  # the code differed from that commit
    versions: dict[str, str]  # of the libraries
    hardware: dict[str, Any]  # device, cores, threads and processes
    holdout: HeldOut
    files: dict[str, str]  # what else training left, by its path in the run -> SHA-256

    def as_json(self) -> dict[str, Any]:
        """What the file holds."""
        return {"format": MANIFEST_FORMAT, **dataclasses.asdict(self)}


def files_of_run(run: RunFolder) -> dict[str, str]:
    """What a manifest says of the files that training left beside the adapter."""
    left = [run.config, run.resolved, run.identity, run.metrics, run.curves]
    left += (*run.holdout.glob("*.json*"), *run.completions.glob("*.jsonl"))
    return file_hashes(run.root, (path for path in left if path.is_file()))


def require_as_trained(run: RunFolder, manifest: Manifest, path: Path) -> Path:
    """A file that training left, or the adapter's folder, if it is still what training left.

    Raises:
        UserError: it is damaged, was changed, or is gone.
    """
    if path == run.adapter:
        found = model_digest(path)
        wrong = None if found == manifest.adapter else f"{path} is damaged or was changed"
    else:
        name = str(path.relative_to(run.root))
        hashes = {name: manifest.files[name]} if name in manifest.files else {}
        wrong = damage(run.root, hashes) if hashes else f"{path} was not there after training"
    if wrong:
        raise UserError(f"{wrong}; restore it from a copy, or train the run again")
    return path


def run_around(model: str) -> RunFolder | None:
    """The finished run that a model lies in: `outputs/x/merged`, `outputs/x/gguf/x.gguf`."""
    path = Path(model).expanduser()
    places = (path.parent, path.parent.parent) if path.exists() else ()
    runs = (RunFolder(place) for place in places)
    return next((run for run in runs if run.manifest.is_file()), None)


def require_compared(folder: Path, fingerprint: str | None = None) -> Path:
    """A merged model's folder, if it is to the byte the one that was compared with the adapter.

    Args:
        fingerprint: its digest, where it is known; else a file whose size and time are what they
            were after the merge is not read again.

    Raises:
        UserError: it was not made by a merge, or something in it has changed.
    """
    how = f"make merge RUN={RunFolder(folder.parent).called}"
    if not os.path.lexists(folder / MERGE_RECORD):
        raise UserError(f"{folder} is no merged run: it has no {MERGE_RECORD}; make it ({how})")
    record = read_sealed(folder / MERGE_RECORD)
    stamped = record.get("files") if fingerprint is None else None
    if isinstance(stamped, Mapping):
        is_whole = {path.name for path in model_files(folder)} == stamped.keys()
        same = is_whole and changed_since(folder, stamped) is None
    else:
        same = record.get("fingerprint") == (fingerprint or model_digest(folder))
    if not same:
        raise UserError(
            f"{folder} has changed since it was compared with the adapter (weights, configuration "
            f"or tokenizer); remove it and merge again ({how})"
        )
    return folder


def require_checked(file: Path) -> Path:
    """A GGUF file, if it is still the one that an export's check beside it looked at.

    A file that no check names is taken as it is; one whose size and time are what they were is not
    read again.

    Raises:
        UserError: it has changed since, or the check is damaged.
    """
    record = file.parent / CHECK_RECORD
    checked = read_sealed(record).get("files") if os.path.lexists(record) else None
    entry = checked.get(file.name) if isinstance(checked, Mapping) else None
    if isinstance(entry, Mapping):
        stamp = {name: entry.get(name) for name in ("sha256", "bytes", "mtime_ns")}
        if wrong := changed_since(file.parent, {file.name: stamp}):
            raise UserError(
                f"{wrong} than in {record}; restore it from a copy, or remove it and make it again "
                f"(make gguf RUN={RunFolder(file.parent.parent).called})"
            )
    return file


def loaded_commit(name: str, revision: str | None) -> str | None:
    """The commit of a model of the Hub that was loaded here last; None of a folder or without one.

    Args:
        revision: the branch, tag or commit that it was asked for; None for the newest.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if Path(name).exists():
        return None
    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:  # it is no id
        return None
    return Path(cached).parent.name if isinstance(cached, str) else None  # snapshots/<commit>/


def write_manifest(run: RunFolder, manifest: Manifest) -> None:
    """Say that a run is finished; nothing of training may be written after it."""
    write_sealed(run.manifest, manifest.as_json())


def read_manifest(run: RunFolder) -> Manifest:
    """The manifest of a finished run.

    Raises:
        UserError: there is no run, training has not finished, or the manifest is damaged or not one
            that this version reads.
    """
    run.require_something()
    if not run.manifest.exists() and not run.manifest.is_symlink():
        raise UserError(
            f"{run.root} has no {run.manifest.name}, so its training has not finished; run the "
            "same training command again to continue it"
        )
    version = read_json(run.manifest).get("format")
    if version != MANIFEST_FORMAT:
        raise UserError(
            f"{run.manifest}: expected format {MANIFEST_FORMAT}, got {version!r}; it was written "
            "by another version of xmlgrpo: use that one, or train again"
        )
    content = read_sealed(run.manifest)
    manifest: Manifest = _built(Manifest, content, f"{run.manifest}: ")
    return manifest


def _built(kind: Any, content: Any, where: str) -> Any:
    """A dataclass from its JSON object: every field of its type, those with a default if there."""
    if not isinstance(content, Mapping):
        raise UserError(f"{where.rstrip(' .:')}: expected a JSON object, got {content!r}")
    hints = get_type_hints(kind)
    known = {f.name: f.default is not dataclasses.MISSING for f in dataclasses.fields(kind)}
    if missing := sorted(name for name in known.keys() - content.keys() if not known[name]):
        raise UserError(f"{where}{missing[0]} is missing; restore the file, or train again")
    given = [name for name in known if name in content]
    return kind(**{name: _field(hints[name], content[name], f"{where}{name}") for name in given})


def _field(hint: Any, value: Any, where: str) -> Any:
    kinds = get_args(hint) if get_origin(hint) is types.UnionType else (hint,)
    if value is None and types.NoneType in kinds:
        return None
    kind = kinds[0]
    if dataclasses.is_dataclass(kind):
        return _built(kind, value, f"{where}.")
    accepted = (int, float) if kind is float else get_origin(kind) or kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise UserError(
            f"{where}: expected {getattr(kind, '__name__', kind)}, got {value!r}; restore the "
            "file, or train again"
        )
    return value
