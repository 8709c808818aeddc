"""The tokenizer of the merged folder: the one that was trained with."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xmlgrpo_exporter.merge.inputs import Base, base_file
from xmlgrpo_run.files import read_json, write_json

TRAINED_WITH = ("tokenizer*", "chat_template*", "special_tokens_map*", "added_tokens*")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
OTHER_TEMPLATES = "additional_chat_templates"  # a folder, beside the default that prompts are of
NOTES = ("vocab_file", "is_local", "local_files_only", "name_or_path")  # transformers' own
BASE_ONLY = ("tokenizer.model", "preprocessor_config.json", "processor_config.json")


def copy_tokenizer(adapter: Path, out: Path, base: Base) -> None:
    """Put the tokenizer that was trained with into the merged folder.

    The adapter folder's files go over as they are, but for what transformers notes of this
    machine.  `tokenizer.model` (which the GGUF converter reads and transformers 5 does not save)
    and the image processor come from the base, if it has them; so does the whole tokenizer of an
    adapter that was saved without one.
    """
    for pattern in TRAINED_WITH:
        for path in filter(Path.is_file, adapter.glob(pattern)):
            shutil.copyfile(path, out / path.name)
    has_tokenizer = (out / "tokenizer.json").is_file()
    for name in BASE_ONLY if has_tokenizer else (*TOKENIZER, *BASE_ONLY):
        if not (out / name).exists() and (file := base_file(base, name)) is not None:
            shutil.copyfile(file, out / name)
    settings = out / "tokenizer_config.json"
    if settings.is_file():
        write_json(settings, without_notes(read_json(settings)))


def without_notes(tokenizer_config: Mapping[str, Any]) -> dict[str, Any]:
    """A `tokenizer_config.json` without what transformers notes of where it was read from."""
    return {key: value for key, value in tokenizer_config.items() if key not in NOTES}
