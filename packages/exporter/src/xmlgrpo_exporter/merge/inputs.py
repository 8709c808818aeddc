"""What is merged into what: an adapter and its pristine 16-bit (or 32-bit) base, and a tokenizer.

Both are judged before a weight is loaded.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import one_line, without_notes
from xmlgrpo_run import manifest
from xmlgrpo_run.files import read_json, write_json
from xmlgrpo_run.folder import RunFolder, model_source
from xmlgrpo_run.safetensors_header import tensor_shapes

VISION_PARTS = (
    *("vision_tower", "multi_modal_projector", "vision_model"),
    *("audio_tower", "embed_vision", "embed_audio"),
)
TABLES = ("embed_tokens", "lm_head")
WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

TRAINED_WITH = ("tokenizer*", "chat_template*", "special_tokens_map*", "added_tokens*")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
OTHER_TEMPLATES = "additional_chat_templates"  # a folder, beside the default that prompts are of
BASE_ONLY = ("tokenizer.model", "preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter's folder, and the names of the tensors in it."""

    folder: Path
    tensors: frozenset[str]


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter's settings and names.

    Raises:
        UserError: missing files, not LoRA, or tensors that cannot be merged soundly: the vision
            tower, or tables that the model uses twice.
    """
    kind = read_json(folder / "adapter_config.json").get("peft_type")
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise UserError(
            f"expected {weights}, got none. Pickled adapters (.bin) are not read; train the run "
            f"to its end (make train RUN={RunFolder(folder.parent).called}) or name another --run"
        )
    if kind != "LORA":
        raise UserError(f"{folder}: expected a LoRA adapter, got peft_type {kind!r}")
    tensors = frozenset(tensor_shapes(weights))
    _refuse(
        tensors,
        VISION_PARTS,
        f"{folder}: the adapter changes what sees or hears",
        "It is not part of the text model that is trained, checked and exported; keep it "
        "out of lora.target_modules (lora.exclude_modules) and train again",
    )
    _refuse(
        tensors,
        TABLES,
        f"{folder}: the adapter changes the embedding or the output table",
        "Gemma uses one table for both, so a merge changes the other one too, and the GGUF "
        "converter drops a separate lm_head without a word; keep both out of "
        "lora.target_modules and modules_to_save and train again",
    )
    return Adapter(folder, tensors)


def _refuse(tensors: frozenset[str], parts: tuple[str, ...], what: str, advice: str) -> None:
    changed = sorted(name for name in tensors if any(part in name for part in parts))
    if changed:
        raise UserError(f"{what} ({len(changed)} tensors, such as {changed[0]}). {advice}")


@dataclass(frozen=True, slots=True)
class Base:
    """What the adapter is merged into, and the number type of the sum."""

    name: str  # a folder or a Hub id, as the run's manifest or --base names it
    source: str  # what it is loaded from: a Hub id, or the folder as it lies now
    revision: str | None
    dtype: str
    model_class: str
    trained_in_4bit: bool


def pristine_base(run: RunFolder, trained: manifest.Base, named: str | None, dtype: str) -> Base:
    """The base of a run, or the one named instead of it; only its configuration is read.

    Raises:
        UserError: gone, not reachable, or quantized itself; or float16 for Gemma 3.
    """
    base = Base(
        name=named or trained.name,
        source=model_source(named) if named else trained.source(run),
        revision=None if named else trained.revision,
        dtype=trained.dtype if dtype == "auto" else dtype,
        model_class=trained.model_class,
        trained_in_4bit=trained.quantized_4bit,
    )
    file = base_file(base, "config.json")
    if file is None:
        raise UserError(
            f"cannot read config.json of the base model {base.source!r}: it has none, or the Hub "
            "does not answer. Give a folder with --base"
        )
    config = read_json(file)
    if config.get("quantization_config"):
        plain = base.name.removesuffix("-bnb-4bit").removesuffix("-unsloth")
        hint = f", such as --base {plain}" if plain != base.name else ""
        raise UserError(
            f"the base {base.name!r} is quantized itself; a merge would keep its rounding errors "
            f"for good. Give the 16-bit model it was made from with --base{hint}"
        )
    if base.dtype not in WEIGHT_BYTES:
        known = ", ".join(WEIGHT_BYTES)
        raise UserError(f"the run was trained in {base.dtype!r}; give --dtype, one of {known}")
    if base.dtype == "float16" and str(config.get("model_type", "")).startswith("gemma3"):
        raise UserError(
            "Gemma 3 overflows in float16 (its activations pass 65,504), so a float16 folder would "
            "answer nonsense to everybody who loads it; use --dtype bfloat16 or float32"
        )
    return base


def base_file(base: Base, name: str) -> Path | None:
    """A file of the base, from its folder or the Hub; None when it has no such file."""
    folder = Path(base.source)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(base.source, name, revision=base.revision))
    except (EntryNotFoundError, LocalEntryNotFoundError):
        return None
    except (OSError, ValueError) as error:
        reason = one_line(str(error), 300)
        raise UserError(
            f"cannot read the base model {base.source!r}: {reason}. Give a folder with --base"
        ) from None


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
