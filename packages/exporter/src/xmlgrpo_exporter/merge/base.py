"""The pristine 16-bit model that an adapter is merged into, judged before it is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmlgrpo_exporter.publish.base_model import HUB_ID
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import read_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import Manifest

DTYPES = ("auto", "float32", "bfloat16", "float16")
BYTES_A_WEIGHT = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Base:
    """The pristine model that the adapter was trained on.

    Attributes:
        name: a folder or a Hub id.
        revision: commit on the Hub; None for a folder.
        dtype: the number type it was trained in.
        model_class: the class of transformers it was trained as; None for its own.
        trained_in_4bit: the adapter saw a 4-bit base.
    """

    name: str
    revision: str | None
    dtype: str
    model_class: str | None
    trained_in_4bit: bool


def base_of(run: RunFolder, manifest: Manifest, override: str | None) -> Base:
    """The base that a run's manifest names, or the one given instead of it.

    Raises:
        UserError: its folder is gone.
    """
    stored = manifest.base
    return Base(
        name=override or stored.source(run),
        revision=None if override else stored.revision,
        dtype=stored.dtype,
        model_class=stored.model_class,
        trained_in_4bit=stored.quantized_4bit,
    )


def choose_dtype(asked: str, base: Base, model_type: str) -> str:
    """The number type to save: the one trained in, unless another was asked for.

    Raises:
        UserError: float16 for Gemma 3, whose activations overflow it.
    """
    dtype = base.dtype if asked == "auto" else asked
    if dtype not in BYTES_A_WEIGHT:
        raise UserError(f"the run was trained in {dtype!r}; give --dtype, one of {DTYPES[1:]}")
    if dtype == "float16" and model_type.startswith("gemma3"):
        raise UserError(
            "Gemma 3 overflows in float16 (its activations pass 65,504), so a float16 folder would "
            "answer nonsense for whoever loads it; use --dtype bfloat16 or float32"
        )
    return dtype


def check_base(base: Base) -> dict[str, Any]:
    """Read the base's configuration before its weights, and without the libraries for those.

    Raises:
        UserError: gone, not reachable, or quantized itself.
    """
    from huggingface_hub import hf_hub_download

    if not HUB_ID.fullmatch(base.name) and not Path(base.name).is_dir():
        raise UserError(
            f"the base model's folder {base.name} is not there any more; say where it is now with "
            "--base"
        )
    path = Path(base.name) / "config.json"
    try:
        if not path.parent.is_dir():
            path = Path(hf_hub_download(base.name, path.name, revision=base.revision))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"cannot read the base model {base.name!r}: {reason}. Give a folder with --base"
        ) from None
    values = read_json(path)
    if values.get("quantization_config"):
        plain = base.name.removesuffix("-bnb-4bit").removesuffix("-unsloth")
        hint = f", such as --base {plain}" if plain != base.name else ""
        raise UserError(
            f"the base {base.name!r} is quantized itself; a merge would keep its rounding errors "
            f"for good. Give the 16-bit model it was made from with --base{hint}"
        )
    return values
