"""From a run folder to the list of what would be published, the card included."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from xmlgrpo_exporter.card.card import render_card
from xmlgrpo_exporter.card.front_matter import eval_results_file
from xmlgrpo_exporter.card.results import RunResults, published_bytes, read_results
from xmlgrpo_exporter.upload.artefacts import Artefact, choose, find_artefacts
from xmlgrpo_exporter.upload.base_model import BaseModel, find_base
from xmlgrpo_exporter.upload.files import (
    Plan,
    PlannedFile,
    kind_of,
    plan_bytes,
    plan_path,
    target_of,
)
from xmlgrpo_exporter.upload.licence import Licence, Lookup, find_licence
from xmlgrpo_exporter.upload.subject import Subject
from xmlgrpo_exporter.upload.texts import published_config, to_bytes
from xmlgrpo_exporter.upload.weights_format import check_weights
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import byte_stage
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest

SMALL_JSON_BYTES = 2**20  # configs; a tokenizer.json is larger or holds no paths


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for.

    Attributes:
        root: the run folder, or a folder of files.
        hub, repo, revision: where to.
        what: the artefacts' names; None for all there are.
        private: whether the repository is to be.
        base_id: the base model's name on the Hub, where the run does not say.
    """

    root: Path
    hub: str
    repo: str
    revision: str
    what: tuple[str, ...] | None
    private: bool
    base_id: str | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What would be published.

    Attributes:
        plan: the files, the card among them.
        card: the card's text.
        results: the result files behind it.
        base: the base model.
        licence: of what is published.
    """

    plan: Plan
    card: str
    results: RunResults
    base: BaseModel
    licence: Licence


def prepare(
    wanted: Wanted,
    secrets: Sequence[bytes],
    look_up: Lookup,
    console: Console,
) -> Prepared:
    """Read the run, choose the files, hash them, write the card; nothing is changed or sent.

    Args:
        wanted: what the user asked for.
        secrets: values that must not be in any file.
        look_up: gives the metadata of a Hub model's card.
        console: shows how far it is.

    Raises:
        UserError: nothing to publish, an artefact is incomplete or damaged, a file holds a secret.
    """
    found = find_artefacts(wanted.root, None)
    results = read_results(wanted.root, found["gguf"].folder if "gguf" in found else None)
    run = RunFolder(wanted.root)
    manifest = read_manifest(run) if results.manifest else None
    base = find_base(run, manifest, wanted.base_id)
    found = find_artefacts(wanted.root, base.folder)
    licence = find_licence(base, look_up)
    with_base = base.hub_id is None and licence.id not in ("unknown", "gemma")
    artefacts = choose(run, found, wanted.what, with_base=with_base)
    files = sorted(
        [
            *_artefact_files(artefacts, base, secrets, console),
            *_result_files(results, secrets),
            *_licence_files(licence, secrets),
        ],
        key=lambda file: file.target,
    )
    _refuse_twice(files)
    subject = Subject(
        wanted.hub, wanted.repo, wanted.revision, wanted.private, base, licence, tuple(files)
    )
    evaluations = eval_results_file(subject, results)
    if evaluations is not None:
        files.append(plan_bytes(".eval_results/xmlgrpo.yaml", "result", evaluations, secrets))
    card = render_card(subject, results)
    files.append(plan_bytes("README.md", "card", card.encode(), secrets))
    stay = [path for artefact in artefacts for path in artefact.files.stay]
    plan = Plan(tuple(files), (*stay, *results.others))
    return Prepared(plan, card, results, base, licence)


def _artefact_files(
    artefacts: Sequence[Artefact],
    base: BaseModel,
    secrets: Sequence[bytes],
    console: Console,
) -> list[PlannedFile]:
    names = {artefact.name for artefact in artefacts}
    chosen = [(artefact, path) for artefact in artefacts for path in artefact.files.go]
    planned = []
    total = sum(path.stat().st_size for _, path in chosen)
    with byte_stage(console, "reading and hashing", total) as on_bytes:
        for artefact, path in chosen:
            check_weights(path)
            target = target_of(artefact, path, alone="merged" not in names)
            text = _mended(path, base)
            planned.append(
                plan_path(target, kind_of(path), path, secrets, on_bytes)
                if text is None
                else plan_bytes(target, kind_of(path), text, secrets)
            )
    return planned


def _mended(path: Path, base: BaseModel) -> bytes | None:
    """The text to publish in a config's place; None when the file goes as it is."""
    if path.suffix != ".json" or path.stat().st_size > SMALL_JSON_BYTES:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); make the artefact again") from None
    mended = published_config(path.name, content, base.label)
    return None if mended == content else to_bytes(mended)


def _result_files(results: RunResults, secrets: Sequence[bytes]) -> list[PlannedFile]:
    planned = [
        plan_bytes(file.published, "result", published_bytes(file), secrets)
        for file in results.files
    ]
    planned += [
        plan_path(f"results/{plot.name}", "result", plot, secrets) for plot in results.plots
    ]
    return planned


def _licence_files(licence: Licence, secrets: Sequence[bytes]) -> list[PlannedFile]:
    if licence.notice is None:
        return []
    return [plan_bytes("Notice", "licence", licence.notice.encode(), secrets)]


def _refuse_twice(files: Sequence[PlannedFile]) -> None:
    targets = [file.target for file in files]
    twice = sorted({target for target in targets if targets.count(target) > 1})
    if twice:
        raise UserError(
            f"two files would be published as {twice[0]}: keep the artefacts in folders of their "
            "own (adapter/, merged/, gguf/) or choose one with --what"
        )
