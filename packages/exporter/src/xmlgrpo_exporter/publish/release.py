"""What is published: one value, made once, that every later stage takes."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from rich.console import Console

from xmlgrpo_exporter.publish.allowed_files import Artefact, choose_artefacts, find_artefacts
from xmlgrpo_exporter.publish.base_and_licence import (
    BaseModel,
    CardLookup,
    Licence,
    find_base,
    find_licence,
)
from xmlgrpo_exporter.publish.own_files import OwnFile
from xmlgrpo_exporter.publish.preflight import Destination
from xmlgrpo_exporter.publish.results import Results, read_results
from xmlgrpo_exporter.publish.upload_files import UploadFile, artefact_file, json_bytes, made_file
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import byte_stage, file_sha256
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import Manifest, read_manifest

CARD = "README.md"
LABELS = {"adapter": "tuned", "merged": "merged", "base": "base"}  # the evaluator's


@dataclass(frozen=True, slots=True)
class Release:
    """What is published, and where to."""

    run: RunFolder  # or a folder of files from elsewhere
    to: Destination
    what: tuple[str, ...]  # the artefacts' names
    base: BaseModel
    licence: Licence
    results: Results
    files: tuple[UploadFile, ...]  # by target
    stay: tuple[Path, ...]  # files beside them that are not published

    def plus(self, *files: UploadFile) -> "Release":
        """The release with more files."""
        return replace(self, files=(*self.files, *files))

    def holds(self, target: str) -> bool:
        """Whether a file of this target is published."""
        return any(file.target == target for file in self.files)

    @property
    def card(self) -> str:
        """The text of the card."""
        return next(file.read().decode() for file in self.files if file.target == CARD)

    @property
    def ggufs(self) -> list[str]:
        """The GGUF files' targets."""
        return [file.target for file in self.files if file.target.endswith(".gguf")]

    @property
    def labels(self) -> list[str]:
        """What the evaluator calls the models that are published."""
        of_folders = [LABELS[name] for name in self.what if name in LABELS]
        return [*of_folders, *(target.removesuffix(".gguf") for target in self.ggufs)]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files)

    def sha256_of(self, path: Path) -> str:
        """The hash of a file here: of the one that is published, where it is one of those."""
        known = (file.sha256_here for file in self.files if file.path == path)
        return next(known, None) or file_sha256(path)

    @property
    def digest(self) -> str:
        """A hash of what the repository will hold: the targets and their contents."""
        lines = "".join(f"{file.sha256}  {file.target}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()


def prepare_release(
    run: RunFolder,
    to: Destination,
    what: Sequence[str] | None,
    base_id: str | None,
    *,
    look_up: CardLookup,
    secrets: Sequence[bytes],
    console: Console,
) -> Release:
    """Read the run, choose the files and hash them; nothing is changed or sent.

    Args:
        what: the artefacts' names; None for all there are.
        base_id: the base model's id on the Hub, where the run does not say.
        secrets: values that must not be in any file.

    Raises:
        UserError: nothing to publish, an artefact is incomplete or damaged, a file holds a secret.
    """
    # a folder of files has no manifest; with metrics its own training has begun: is it over?
    is_trained_here = any(os.path.lexists(path) for path in (run.manifest, run.metrics))
    manifest = read_manifest(run) if is_trained_here else None
    base = find_base(run, manifest, base_id)
    licence = find_licence(base, look_up)
    there = find_artefacts(run, base.folder)
    results = read_results(run, manifest, there["gguf"].folder if "gguf" in there else run.gguf)
    # a folder from elsewhere may name any folder of this machine as its base
    is_known = manifest is not None and base.hub_id is None
    with_base = is_known and licence.id not in ("unknown", "gemma")
    artefacts = choose_artefacts(run, there, what, with_base=with_base)
    texts = {file.target: json_bytes(file.content) for file in results.files}
    texts |= {f"results/{plot.path.name}": plot.read() for plot in results.plots}
    files = _artefact_files(artefacts, base.label, secrets, console)
    if manifest is not None:
        _require_trained_from(base.folder, files, manifest)
    files += [made_file(target, "result", text, secrets) for target, text in texts.items()]
    if licence.notice is not None:
        files.append(made_file("Notice", "licence", licence.notice.encode(), secrets))
    files.sort(key=lambda file: file.target)
    for one, other in pairwise(files):
        if one.target == other.target:
            raise UserError(
                f"two files would be published as {one.target}: keep the artefacts in folders of "
                "their own (adapter/, merged/, gguf/) or choose one with --what"
            )
    stay = (*(path for artefact in artefacts for path in artefact.stay), *results.others)
    names = tuple(artefact.name for artefact in artefacts)
    return Release(run, to, names, base, licence, results, tuple(files), stay)


def target_of(artefact: str, name: str, *, with_merged: bool) -> str:
    """Where a file goes: merged weights and GGUFs to the top, where their users look for them.

    The adapter goes to the top only when it goes without merged weights: `transformers` takes an
    `adapter_config.json` beside a `config.json` for the model's adapter and would apply it to
    weights that already hold it.
    """
    if artefact in ("merged", "gguf") or (artefact == "adapter" and not with_merged):
        return name
    return f"{artefact}/{name}"


def _require_trained_from(
    base: Path | None, files: Sequence[UploadFile], manifest: Manifest
) -> None:
    """See that the base's files, where they go along, are those that were trained from."""
    of_base = [f for f in files if base and f.path and f.path.parent == base]
    for file in of_base if manifest.base.files else []:
        known = manifest.base.files.get(file.path.name if file.path else "", {})
        if known.get("sha256") != file.sha256_here:
            raise UserError(
                f"{file.path} is not what the run was trained from; put the file back, or leave "
                "the base out (--what)"
            )


def _artefact_files(
    artefacts: Sequence[Artefact], base_name: str | None, secrets: Sequence[bytes], console: Console
) -> list[UploadFile]:
    with_merged = any(artefact.name == "merged" for artefact in artefacts)
    chosen = [
        (target_of(artefact.name, path.name, with_merged=with_merged), OwnFile(artefact.root, path))
        for artefact in artefacts
        for path in artefact.allowed
    ]
    total = sum(file.size for _, file in chosen)
    with byte_stage(console, "reading and hashing", total) as on_bytes:
        return [
            artefact_file(target, file, base_name, secrets, on_bytes) for target, file in chosen
        ]
