"""What may leave the machine: an allow-list, so that what nobody thought of stays at home.

Optimizer state, pickles, logs, completions, `.env` files and a tracker's folder are not excluded:
they are simply not on the list.  The list is by artefact and by whole file name.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
MODEL = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "preprocessor_config.json",  # Gemma 3 from 4B on reads images too
    "processor_config.json",
    *TOKENIZER,
)
ALLOWED = {
    "adapter": ("adapter_config.json", "adapter_model.safetensors", *TOKENIZER),
    "merged": MODEL,
    "base": MODEL,
    "gguf": ("*.gguf", "*.Modelfile"),
}
ARTEFACTS = tuple(ALLOWED)


@dataclass(frozen=True, slots=True)
class Sorted:
    """The files of a folder: those that may go up and those that stay, each by its path."""

    go: tuple[Path, ...]
    stay: tuple[Path, ...]


def sort_files(folder: Path, artefact: str) -> Sorted:
    """Sort the files of an artefact's folder by the allow-list.

    Only the folder's own files can go up; what lies in folders below stays.  A link that leads
    out of the folder stays too: its target is not what the folder's owner put there.
    """
    go: list[Path] = []
    stay: list[Path] = []
    root = folder.resolve()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        allowed = path.parent == folder and any(
            fnmatchcase(path.name, pattern) for pattern in ALLOWED[artefact]
        )
        inside = path.resolve().is_relative_to(root)
        (go if allowed and inside else stay).append(path)
    return Sorted(tuple(go), tuple(stay))
