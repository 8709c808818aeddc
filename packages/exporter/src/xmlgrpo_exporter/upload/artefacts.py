"""Where the publishable artefacts of a run are: in a run folder, or in a plain folder of files."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xmlgrpo_exporter.upload.allow_list import ARTEFACTS, Sorted, sort_files
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder

HOW_TO_MAKE = {
    "adapter": "make train RUN={run}",
    "merged": "make gguf RUN={run}",
    "gguf": "make gguf RUN={run}",
    "base": "only a run whose base model is a local folder has one to publish",
}
PLAIN_NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True, slots=True)
class Artefact:
    """One publishable thing: its name, its folder and that folder's files, sorted."""

    name: str
    folder: Path
    files: Sorted


def find_artefacts(root: Path, base: Path | None) -> dict[str, Artefact]:
    """What can be published from `root`.

    A run folder holds `adapter/`, `merged/` and `gguf/`.  A folder that holds the files themselves
    (an adapter trained elsewhere, a few GGUF files) is taken as that artefact.

    Args:
        root: the run folder, or such a folder of files.
        base: the folder of the base model, when it is a local one.
    """
    found = {}
    for name, mark in (("adapter", "adapter_config.json"), ("merged", "config.json")):
        for folder in (root / name, root):
            if (folder / mark).is_file():
                found[name] = Artefact(name, folder, sort_files(folder, name))
                break
    for folder in (root / "gguf", root):
        if any(folder.glob("*.gguf")):
            found["gguf"] = Artefact("gguf", folder, sort_files(folder, "gguf"))
            break
    if base is not None and (base / "config.json").is_file():
        found["base"] = Artefact("base", base, sort_files(base, "base"))
    return found


def parse_what(words: Sequence[str] | None) -> tuple[str, ...] | None:
    """The artefacts' names in the words of `--what`; None for all there are.

    Raises:
        UserError: a word is none of them.
    """
    names = tuple(" ".join(words or ()).split())
    unknown = [name for name in names if name not in ARTEFACTS]
    if unknown:
        raise UserError(f"--what: expected any of {', '.join(ARTEFACTS)}, got {unknown[0]!r}")
    return names or None


def choose(
    run: RunFolder, found: Mapping[str, Artefact], what: Sequence[str] | None, *, with_base: bool
) -> tuple[Artefact, ...]:
    """The artefacts to publish, complete ones only.

    Args:
        run: the run, or a folder of files.
        found: what there is.
        what: the names asked for; None for all of them.
        with_base: whether the base model is one of "all": it is when the adapter needs it and
            its licence lets us.

    Raises:
        UserError: an artefact is not there or lacks a file, or the base is to go alone.
    """
    if what is None:
        what = [name for name in found if name != "base" or (with_base and "adapter" in found)]
    absent = [name for name in what if name not in found]
    if absent:
        raise UserError(
            f"{absent[0]} was to be published, but there is none: "
            f"{_how_to_make(absent[0], run)}. "
            f"What is there: {', '.join(found) or 'nothing'}"
        )
    if set(what) == {"base"}:
        raise UserError('the base goes along with an adapter that needs it: WHAT="adapter base"')
    if not what:
        raise UserError(
            "nothing to publish: expected adapter/, merged/ or gguf/ in the run folder, or a "
            "folder that holds adapter_config.json, config.json or *.gguf itself"
        )
    chosen = tuple(found[name] for name in ARTEFACTS if name in what)
    for artefact in chosen:
        _check_complete(artefact, run)
    return chosen


def _how_to_make(name: str, run: RunFolder) -> str:
    return HOW_TO_MAKE[name].format(run=run.called)


def _check_complete(artefact: Artefact, run: RunFolder) -> None:
    names = {path.name for path in artefact.files.go}
    odd = sorted(name for name in names if not PLAIN_NAME.fullmatch(name))
    if odd:
        raise UserError(
            f"{artefact.folder}: expected file names of letters, digits, '.', '_', '+' and '-', "
            f"got {odd[0]!r}, which no command line on the card could name; rename it"
        )
    if artefact.name == "adapter":
        missing = {"adapter_config.json", "adapter_model.safetensors"} - names
    elif artefact.name == "gguf":
        missing = set() if any(name.endswith(".gguf") for name in names) else {"*.gguf"}
    else:
        weights = {name for name in names if name.endswith(".safetensors")}
        missing = {"config.json", "tokenizer.json"} - names
        missing |= _shards(artefact.folder) - weights
        missing |= set() if weights else {"model.safetensors"}
    if missing:
        raise UserError(
            f"{artefact.folder} lacks {', '.join(sorted(missing))} (or it is a link that leads "
            f"out of the folder); make it again: {_how_to_make(artefact.name, run)}"
        )


def _shards(folder: Path) -> set[str]:
    """The weights files that the folder's index names; none without an index."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return set()
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{index} is no index of safetensors files; save the model again") from None
