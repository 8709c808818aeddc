"""The licence of what is published: the base model's, since the weights derive from it.

Our own tiny base is under our licence, whatever its architecture: it holds nobody's weights.  For
others it is looked for in this order: the base's own card (in its folder, then on the Hub), its
name (Gemma up to 3n, whose terms are not one of the usual licences), its architecture.  Nothing
found: the card says `unknown`, and that it must be settled before the repository is made public.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub.repocard import metadata_load

from xmlgrpo_exporter.upload.base_model import BaseModel

GEMMA_TERMS = "https://ai.google.dev/gemma/terms"
GEMMA_POLICY = "https://ai.google.dev/gemma/prohibited_use_policy"

# Gemma Terms of Use (as of April 2026), section 3.1: a distribution comes with a text file "Notice"
# that holds this sentence, and modified files say prominently that they were modified.
GEMMA_NOTICE = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at "
    "ai.google.dev/gemma/terms\n"
    "\n"
    "The model files here were modified: they derive from Gemma by further training.\n"
)
GEMMA_NAMES = ("gemma-1", "gemma-2b", "gemma-7b", "gemma-2", "gemma-3", "gemma3", "gemma2")

Lookup = Callable[[str], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence as the card states it.

    Attributes:
        id: the Hub's identifier.
        found_in: where it was found, in words.
        name: the licence's own name, where the identifier is `other`.
        link: its text.
        notice: the content of the `Notice` file that must go along, if any.
    """

    id: str
    found_in: str
    name: str | None = None
    link: str | None = None
    notice: str | None = None


def find_licence(base: BaseModel, look_up: Lookup) -> Licence:
    """The licence of models derived from `base`.

    Args:
        base: the base model.
        look_up: gives the metadata of a Hub model's card, or None when it cannot be read.
    """
    stated = _in_folder(base)
    if base.tiny:
        return Licence("mit", "the run's manifest: the base is this project's own tiny model")
    if stated:
        return _from_card(stated, "the base model's own card")
    if base.hub_id is not None:
        metadata = look_up(base.hub_id)
        if metadata and metadata.get("license"):
            return _from_card(metadata, "the base model's card on the Hub")
        if any(name in base.hub_id.lower() for name in GEMMA_NAMES):
            return _gemma("the base model's name")
    elif base.is_gemma:
        return _gemma(
            "the architecture; the base model is not named, so its weights are taken for Gemma's"
        )
    return Licence("unknown", "no card, name or licence file of the base model")


def _in_folder(base: BaseModel) -> Mapping[str, Any] | None:
    if base.folder is None or not (base.folder / "README.md").is_file():
        return None
    metadata = metadata_load(base.folder / "README.md") or {}
    return metadata if metadata.get("license") else None


def _from_card(metadata: Mapping[str, Any], found_in: str) -> Licence:
    licence = metadata["license"]
    identifier = str(licence[0] if isinstance(licence, list) else licence)
    if identifier == "gemma":
        return _gemma(found_in)
    return Licence(identifier, found_in, metadata.get("license_name"), metadata.get("license_link"))


def _gemma(found_in: str) -> Licence:
    return Licence("gemma", found_in, link=GEMMA_TERMS, notice=GEMMA_NOTICE)
