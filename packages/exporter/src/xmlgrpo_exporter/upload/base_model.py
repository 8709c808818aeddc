"""Which model was trained from: read from the run, never guessed."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from xmlgrpo_exporter.upload.weights_format import gguf_architecture
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import read_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import Manifest

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The base of a run, as far as it is known.

    Attributes:
        hub_id: its name on the Hub.
        folder: where it lies, when it is a folder of this machine.
        label: what to call it: the Hub's name, or the folder's last name (a whole path would tell
            the world about this machine).
        revision: the commit on the Hub.
        architecture: e.g. `Gemma3ForCausalLM`, or llama.cpp's name for it, e.g. `gemma3`.
        tiny: whether it is our own tiny model, made from scratch.
    """

    hub_id: str | None = None
    folder: Path | None = None
    label: str | None = None
    revision: str | None = None
    architecture: str | None = None
    tiny: bool = False

    @property
    def is_gemma(self) -> bool:
        """Whether it is built like a Gemma under Gemma's terms, which end with the third.

        Its weights may still be somebody else's.
        """
        return re.search(r"gemma(?!4)", (self.architecture or "").lower()) is not None


def check_base_id(given: str | None) -> None:
    """Refuse a base model's name that could not be one on the Hub.

    Raises:
        UserError: it is no Hub name.
    """
    if given is not None and not HUB_ID.fullmatch(given):
        raise UserError(
            f"--base-id: expected a name on the Hub, such as google/gemma-3-1b-it, got {given!r}"
        )


def find_base(run: RunFolder, manifest: Manifest | None, given: str | None) -> BaseModel:
    """Find the base of what is in a folder.

    Args:
        run: the run, or a folder of files from elsewhere.
        manifest: the run's manifest, if it has one.
        given: the Hub name that the user gave; it wins, since a folder may be a downloaded copy.

    Raises:
        UserError: a config is not JSON.
    """
    if manifest is None:
        name = _first_of(run, "adapter_config.json", "base_model_name_or_path")
        folder, revision, tiny = _folder(run.root, name), None, False
        architecture = _architecture(run)
    else:
        base = manifest.base
        name, folder, revision, tiny = base.name, base.folder(run), base.revision, base.tiny
        architecture = base.model_class
    if given is not None:
        same = given == name
        return BaseModel(given, folder, given, revision if same else None, architecture)
    if not name:
        return BaseModel(architecture=architecture)
    is_on_the_hub = manifest.base.hub_id is not None if manifest else folder is None
    if is_on_the_hub and HUB_ID.fullmatch(name):
        return BaseModel(name, None, name, revision, architecture)
    return BaseModel(None, folder, PurePath(name).name or name, None, architecture, tiny)


def _folder(root: Path, name: str | None) -> Path | None:
    for folder in (Path(name), root / name) if name else ():
        if (folder / "config.json").is_file():
            return folder
    return None


def _architecture(run: RunFolder) -> str | None:
    architectures = _first_of(run, "config.json", "architectures")
    if architectures:
        return str(architectures[0])
    for path in (*sorted(run.gguf.glob("*.gguf")), *sorted(run.root.glob("*.gguf"))):
        return gguf_architecture(path)
    return None


def _first_of(run: RunFolder, file: str, key: str) -> Any:
    """The value of `key` in the first readable `file` of the folders that artefacts lie in."""
    for folder in (run.adapter, run.merged, run.root):
        path = folder / file
        if path.is_file() and (found := read_json(path).get(key)):
            return found
    return None
