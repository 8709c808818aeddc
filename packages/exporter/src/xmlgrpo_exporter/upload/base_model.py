"""Which model was trained from: read from the run, never guessed."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from xmlgrpo_exporter.upload.weights_format import gguf_architecture
from xmlgrpo_rewards.errors import UserError

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


def find_base(root: Path, manifest: dict[str, Any] | None, given: str | None) -> BaseModel:
    """Find the base of what is in `root`.

    Args:
        root: the run folder, or a folder of files from elsewhere.
        manifest: the run's manifest, if it has one.
        given: the Hub name that the user gave; it wins, since a folder may be a downloaded copy.

    Raises:
        UserError: a config is not JSON.
    """
    recorded = (manifest or {}).get("base") or {}
    name = recorded.get("name") or _first_of(root, "adapter_config.json", "base_model_name_or_path")
    architecture = recorded.get("class") or _architecture(root)
    revision = recorded.get("revision")
    folder = _folder(root, name)
    if given is not None:
        same = given == name
        return BaseModel(given, folder, given, revision if same else None, architecture)
    if not name:
        return BaseModel(architecture=architecture)
    if folder is None and HUB_ID.fullmatch(name):
        return BaseModel(name, None, name, revision, architecture)
    tiny = recorded.get("tiny") is True
    return BaseModel(None, folder, PurePath(name).name or name, None, architecture, tiny)


def _folder(root: Path, name: str | None) -> Path | None:
    for folder in (Path(name), root / name) if name else ():
        if (folder / "config.json").is_file():
            return folder
    return None


def _architecture(root: Path) -> str | None:
    architectures = _first_of(root, "config.json", "architectures")
    if architectures:
        return str(architectures[0])
    for path in (*sorted(root.glob("gguf/*.gguf")), *sorted(root.glob("*.gguf"))):
        return gguf_architecture(path)
    return None


def _first_of(root: Path, file: str, key: str) -> Any:
    """The value of `key` in the first readable `file` of the folders that artefacts lie in."""
    for content in _readable(folder / file for folder in (root / "adapter", root / "merged", root)):
        if content.get(key):
            return content[key]
    return None


def _readable(paths: Iterable[Path]) -> Iterable[dict[str, Any]]:
    for path in paths:
        if path.is_file():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                raise UserError(f"{path} is not JSON; make the artefact again") from None
            if isinstance(content, dict):
                yield content
