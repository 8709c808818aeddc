"""Which model was trained from, read from the run and never guessed; and its licence.

What is published derives from the base's weights, and so is under its licence.  Our own tiny base
is under ours, whatever its architecture: it holds nobody's weights.  Others say it in their card
(in their folder, then on the Hub); else their name shows it (Gemma up to 3n and Llama 3, whose
terms are none of the usual licences), or Gemma's architecture.  Where nothing does, the card says
`unknown`, and that it must be settled before the repository is made public.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi
from rich.console import Console

from xmlgrpo_exporter.publish.hub_calls import ask
from xmlgrpo_gguf.header import read_header
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import one_line
from xmlgrpo_run.files import read_bytes, read_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import Manifest
from xmlgrpo_run.screen.progress import Stage

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
ANY_HUB_ID = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*")  # the oldest models have no owner

GEMMA_TERMS = "https://ai.google.dev/gemma/terms"
GEMMA_POLICY = "https://ai.google.dev/gemma/prohibited_use_policy"
GEMMA_NAMES = ("gemma-1", "gemma-2b", "gemma-7b", "gemma-2", "gemma-3", "gemma3", "gemma2")

# Gemma Terms of Use (as of April 2026), section 3.1: a distribution comes with a text file "Notice"
# that holds this sentence, and modified files say prominently that they were modified.
GEMMA_NOTICE = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at "
    "ai.google.dev/gemma/terms\n"
    "\n"
    "The model files here were modified: they derive from Gemma by further training.\n"
)

# Llama 3 to 3.3 Community License, section 1.b: a "Notice" file with this sentence goes along, a
# page about the model says "Built with Llama", and the model's name begins with Llama.
LLAMA = re.compile(r"llama3(?:\.[1-3])?")
LLAMA_IN_NAMES = re.compile(r"llama-(3(?:\.[1-3])?)-\d")
LLAMA_NOTICE = (
    "Llama {version} is licensed under the Llama {version} Community License, Copyright \u00a9 "
    "Meta Platforms, Inc. All Rights Reserved.\n"
)

# Of a card only the lines about the licence are read: some hold megabytes of results as metadata.
MAX_CARD_BYTES, MAX_LICENCE_CHARS = 4 << 20, 2000
CARD_HEAD = re.compile(r"\ufeff?\s*---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
LICENCE_LINES = re.compile(r"^license(?:_name|_link)?[ \t]*:.*\n?(?:[ \t-].*\n?)*", re.MULTILINE)
LICENCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .,+()_/-]{0,99}")
HUB_LICENCES = frozenset(
    """apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear
    c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl
    ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
    lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0
    odc-by odbl openmdw-1.0 openmdw-1.1 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib
    pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1
    llama3.2 llama3.3 llama4 grok2-community gemma unknown other""".split()  # noqa: SIM905 - sixty words
)
"""The identifiers that the Hub takes: in its own words, in November 2026.  It refuses a card with
any other, which therefore goes as `other`, under the name that it has."""
ON_THE_HUB = "the base model's card on the Hub"
LINK = re.compile(r"https?://[^\s<>()\"'`]{1,500}|[\w.-]{1,100}")  # or a file beside the card

CardLookup = Callable[[str], Mapping[str, Any] | None]
"""Gives the metadata of a Hub model's card; None when it cannot be read."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The base of a run, as far as it is known."""

    hub_id: str | None = None
    folder: Path | None = None  # where it lies, when it is one of this machine
    label: str | None = None  # its Hub id or the folder's last name: a path would name its owner
    revision: str | None = None  # the commit on the Hub
    architecture: str | None = None  # `Gemma3ForCausalLM`, or llama.cpp's name for it, `gemma3`
    tiny: bool = False  # our own tiny model, made from scratch

    @property
    def is_gemma(self) -> bool:
        """Whether it is built like a Gemma under Gemma's terms, which end with the third.

        Its weights may still be somebody else's.
        """
        return re.search(r"gemma(?!4)", (self.architecture or "").lower()) is not None


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence as the card states it."""

    id: str  # the Hub's identifier
    source: str  # where it is stated, in words
    name: str | None = None  # its own, where the identifier is `other`
    link: str | None = None  # its text
    notice: str | None = None  # the content of the `Notice` file that must go along


def check_base_id(given: str | None) -> None:
    """Refuse a base model's name that could not be one on the Hub."""
    if given is not None and not HUB_ID.fullmatch(given):
        raise UserError(
            f"--base-id: expected a name on the Hub, such as google/gemma-3-1b-it, got {given!r}"
        )


def find_base(run: RunFolder, manifest: Manifest | None, given: str | None) -> BaseModel:
    """The base of a run, or of a folder of files from elsewhere, which has no manifest.

    `given`, the Hub id that the user gave, wins: a folder may be a downloaded copy.

    Raises:
        UserError: a config is not JSON.
    """
    base = _of_files(run) if manifest is None else _of_training(run, manifest)
    if given is None:
        if base.hub_id is not None and not ANY_HUB_ID.fullmatch(base.hub_id):
            raise UserError(
                f"the run names {base.hub_id!r} as its base, which is no name on the Hub; give the "
                "base model's with --base-id"
            )
        return base
    revision = base.revision if base.hub_id == given else None
    return replace(base, hub_id=given, label=given, revision=revision, tiny=False)


def find_licence(base: BaseModel, look_up: CardLookup) -> Licence:
    """The licence of models derived from `base`."""
    if base.tiny:
        return Licence("mit", "the run's manifest: the base is this project's own tiny model")
    card = base.folder / "README.md" if base.folder else None
    if card and card.is_file() and (stated := _stated_in(card)).get("license"):
        return _from_card(stated, "the base model's own card")
    if base.hub_id is not None:
        metadata = look_up(base.hub_id)
        if metadata and metadata.get("license"):
            return _from_card(metadata, ON_THE_HUB)
        if named := _by_name(base.hub_id.lower()):
            return named
    elif base.is_gemma:
        return _gemma(
            "the architecture; the base model is not named, so its weights are taken for Gemma's"
        )
    return Licence("unknown", "no card, name or licence file of the base model")


def card_lookup(api: HfApi, console: Console) -> CardLookup:
    """Looks cards up on the Hub; None also where that cannot be asked."""

    def look_up(hub_id: str) -> Mapping[str, Any] | None:
        doing = "reading the base model's card"
        try:
            with Stage(console, doing):
                card = ask(doing, lambda: api.model_info(hub_id), attempts=1).card_data
        except UserError:
            return None
        return None if card is None else vars(card)

    return look_up


def _of_training(run: RunFolder, manifest: Manifest) -> BaseModel:
    base = manifest.base
    label = base.hub_id or Path(base.name).name
    folder = base.folder(run)
    return BaseModel(base.hub_id, folder, label, base.revision, base.model_class, base.tiny)


def _of_files(run: RunFolder) -> BaseModel:
    """What an adapter trained elsewhere, merged weights or GGUF files say of their base."""
    name = next(_values(run, "adapter_config.json", "base_model_name_or_path"), None)
    architectures = next(_values(run, "config.json", "architectures"), None)
    ggufs = [*sorted(run.gguf.glob("*.gguf")), *sorted(run.root.glob("*.gguf"))]
    architecture = None
    if architectures:
        architecture = str(architectures[0])
    elif ggufs:
        architecture = read_header(ggufs[0]).metadata.get("general.architecture")
    if not name:
        return BaseModel(architecture=architecture)
    folder = next((p for p in (Path(name), run.root / name) if (p / "config.json").is_file()), None)
    if folder is None and HUB_ID.fullmatch(name):
        return BaseModel(name, None, name, None, architecture)
    return BaseModel(None, folder, Path(name).name, None, architecture)


def _values(run: RunFolder, file: str, key: str) -> Iterator[Any]:
    """What the configs of that name say, in the folders that artefacts lie in."""
    for folder in (run.adapter, run.merged, run.root):
        if (folder / file).is_file() and (value := read_json(folder / file).get(key)):
            yield value


def _stated_in(card: Path) -> Mapping[str, Any]:
    """What the metadata of a card, a file from anywhere, say of the licence."""
    text = read_bytes(card, MAX_CARD_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")
    head = CARD_HEAD.match(text)
    found = LICENCE_LINES.finditer(head[1]) if head else ()
    lines = "\n".join(lines[0].strip("\n") for lines in found)[:MAX_LICENCE_CHARS]
    try:
        aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(lines))
        return {} if aliases or not lines else dict(yaml.safe_load(lines))
    except (yaml.YAMLError, ValueError, TypeError, LookupError, RecursionError) as error:
        reason = getattr(error, "problem", None) or str(error)
        raise UserError(f"{card}: its licence cannot be read ({reason}); correct it") from None


def _from_card(metadata: Mapping[str, Any], source: str) -> Licence:
    licence = metadata["license"]
    stated = str(licence[0] if isinstance(licence, list) else licence)
    if not LICENCE_NAME.fullmatch(stated):
        if source == ON_THE_HUB:  # somebody else's card, which the user cannot correct
            return Licence("unknown", f"{source} states one that cannot be read")
        raise UserError(
            f"{source} states the licence as {one_line(stated, 60)!r}; expected an identifier of "
            "the Hub's, such as apache-2.0; correct the card"
        )
    identifier = stated.lower()
    if identifier not in HUB_LICENCES:  # the Hub takes it as a name of one that it does not know
        slug = re.sub(r"[^a-z0-9.+]+", "-", identifier).strip("-")
        metadata = {"license_name": slug, **metadata}
        identifier = "other"
    if identifier == "gemma":
        return _gemma(source)
    if LLAMA.fullmatch(identifier):
        return _llama(identifier, source)
    name, link = metadata.get("license_name"), str(metadata.get("license_link") or "")
    named = one_line(str(name), 100) if name else None
    return Licence(identifier, source, named, link if LINK.fullmatch(link) else None)


def _by_name(hub_id: str) -> Licence | None:
    source = "the base model's name"
    if any(name in hub_id for name in GEMMA_NAMES):
        return _gemma(source)
    llama = LLAMA_IN_NAMES.search(hub_id)
    return _llama(f"llama{llama[1]}", source) if llama else None


def _llama(identifier: str, source: str) -> Licence:
    version = identifier.removeprefix("llama")
    return Licence(identifier, source, notice=LLAMA_NOTICE.format(version=version))


def _gemma(source: str) -> Licence:
    return Licence("gemma", source, link=GEMMA_TERMS, notice=GEMMA_NOTICE)
