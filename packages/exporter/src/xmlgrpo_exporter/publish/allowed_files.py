"""What of a run can be published: its artefacts, and of their files only those on a list.

Optimizer state, pickles, logs, completions, `.env` files and a tracker's folder are not excluded:
they are simply not on the list.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from xmlgrpo_exporter.publish.own_files import OwnFile
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder

TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model"),
    *("special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "chat_template.json"),
)
MODEL = (
    *("config.json", "generation_config.json"),
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("preprocessor_config.json", "processor_config.json"),  # Gemma 3 from 4B on reads images too
    *TOKENIZER,
)
ALLOWED = {
    "adapter": ("adapter_config.json", "adapter_model.safetensors", *TOKENIZER),
    "merged": MODEL,
    "base": MODEL,
    "gguf": ("*.gguf", "*.Modelfile"),
}
HOW_TO_MAKE = {
    "adapter": "make train RUN={run}",
    "merged": "make gguf RUN={run}",
    "gguf": "make gguf RUN={run}",
    "base": "only a run whose base model is a local folder has one to publish",
}
PLAIN_NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True, slots=True)
class Artefact:
    """One publishable thing: the files of its folder that may go up, and those that stay."""

    name: str
    root: Path  # the run's folder or the base's; what goes up lies in it
    folder: Path
    allowed: tuple[Path, ...]
    stay: tuple[Path, ...]


def parse_what(words: Sequence[str] | None) -> tuple[str, ...] | None:
    """The artefacts' names in the words of `--what`; None for all there are."""
    names = tuple(" ".join(words or ()).split())
    unknown = [name for name in names if name not in ALLOWED]
    if unknown:
        raise UserError(f"--what: expected any of {', '.join(ALLOWED)}, got {unknown[0]!r}")
    return names or None


def find_artefacts(run: RunFolder, base: Path | None) -> dict[str, Artefact]:
    """What can be published of a run whose base is in the folder `base`, by name.

    A run folder holds `adapter/`, `merged/` and `gguf/`.  A folder that holds the files themselves
    (an adapter trained elsewhere, a few GGUF files) is taken as that artefact.
    """
    places = {
        "adapter": ("adapter_config.json", (run.adapter, run.root)),
        "merged": ("config.json", (run.merged, run.root)),
        "gguf": ("*.gguf", (run.gguf, run.root)),
        "base": ("config.json", (base,) if base else ()),
    }
    there = {}
    for name, (mark, folders) in places.items():
        folder = next((place for place in folders if any(place.glob(mark))), None)
        if folder is not None:
            files = sorted(p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
            allowed = tuple(path for path in files if _is_allowed(path, folder, name))
            stay = tuple(path for path in files if path not in allowed)
            root = folder if name == "base" else run.root
            there[name] = Artefact(name, root, folder, allowed, stay)
    return there


def _is_allowed(path: Path, folder: Path, artefact: str) -> bool:
    """Whether the list has it; what lies in folders below stays."""
    is_listed = any(fnmatchcase(path.name, pattern) for pattern in ALLOWED[artefact])
    return path.parent == folder and is_listed


def choose_artefacts(
    run: RunFolder, there: Mapping[str, Artefact], what: Sequence[str] | None, *, with_base: bool
) -> list[Artefact]:
    """The artefacts to publish, complete ones only.

    All that are there where nobody names them; the base is one of them only `with_base`, and where
    an adapter needs it.

    Raises:
        UserError: an artefact is not there or lacks a file, or the base is to go alone.
    """
    if what is None:
        what = [name for name in there if name != "base" or (with_base and "adapter" in there)]
    for name in what:
        if name not in there:
            raise UserError(
                f"{name} was to be published, but there is none: "
                f"{HOW_TO_MAKE[name].format(run=run.called)}. "
                f"What is there: {', '.join(there) or 'nothing'}"
            )
    if set(what) == {"base"}:
        raise UserError('the base goes along with an adapter that needs it: WHAT="adapter base"')
    if not what:
        raise UserError(
            "nothing to publish: expected adapter/, merged/ or gguf/ in the run folder, or a "
            "folder that holds adapter_config.json, config.json or *.gguf itself"
        )
    chosen = [there[name] for name in ALLOWED if name in what]
    for artefact in chosen:
        _require_complete(artefact, HOW_TO_MAKE[artefact.name].format(run=run.called))
    return chosen


def _require_complete(artefact: Artefact, how_to_make: str) -> None:
    names = {path.name for path in artefact.allowed}
    odd = sorted(name for name in names if not PLAIN_NAME.fullmatch(name))
    if odd:
        raise UserError(
            f"{artefact.folder}: expected file names of letters, digits, '.', '_', '+' and '-', "
            f"got {odd[0]!r}, which no command line on the card could name; rename it"
        )
    needed = {"*.gguf"}
    if artefact.name == "adapter":
        needed = {"adapter_config.json", "adapter_model.safetensors"}
    elif artefact.name != "gguf":
        needed = {"config.json", "tokenizer.json", *_weights(artefact)}
    missing = [name for name in sorted(needed) if not any(fnmatchcase(n, name) for n in names)]
    if missing:
        raise UserError(
            f"{artefact.folder} lacks {', '.join(missing)}; make it again: {how_to_make}"
        )


def _weights(artefact: Artefact) -> set[str]:
    """The files that hold a model's weights: the shards that its index names, or the one file."""
    index = artefact.folder / "model.safetensors.index.json"
    if index not in artefact.allowed:
        return {"model.safetensors"}
    try:
        return set(OwnFile(artefact.root, index).json()["weight_map"].values())
    except (KeyError, AttributeError, TypeError):
        raise UserError(f"{index} is no index of safetensors files; save the model again") from None
