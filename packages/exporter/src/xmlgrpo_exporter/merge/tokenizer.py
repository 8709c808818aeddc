"""The tokenizer of the merged folder: the one that was trained with."""

import shutil
from pathlib import Path

from xmlgrpo_exporter.machine_traces import without_notes
from xmlgrpo_exporter.merge.base import Base
from xmlgrpo_run.files import read_json, write_json

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def copy_tokenizer(adapter: Path, base: Base, out: Path) -> None:
    """Put the tokenizer that was trained with into the merged folder.

    The adapter folder's files go over as they are, but for what transformers notes of this
    machine.  `tokenizer.model` (which the GGUF converter reads and transformers 5 does not save)
    and the image processor come from the base, if it has them.
    """
    names = [p for p in adapter.iterdir() if p.is_file() and _is_tokenizer_file(p.name)]
    for path in names:
        shutil.copyfile(path, out / path.name)
    if not (out / "tokenizer.json").is_file():
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(base.name, revision=base.revision).save_pretrained(out)
    settings = out / "tokenizer_config.json"
    if settings.is_file():
        write_json(settings, without_notes(read_json(settings)))
    for name in ("tokenizer.model", *PROCESSOR_FILES):
        found = None if (out / name).exists() else _base_file(base, name)
        if found is not None:
            shutil.copyfile(found, out / name)


def _is_tokenizer_file(name: str) -> bool:
    return name.startswith(("tokenizer", "chat_template", "special_tokens_map", "added_tokens"))


def _base_file(base: Base, name: str) -> Path | None:
    """A file of the base, from its folder or the Hub; None when it has no such file."""
    folder = Path(base.name)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(base.name, name, revision=base.revision))
    except (EntryNotFoundError, LocalEntryNotFoundError):
        return None
