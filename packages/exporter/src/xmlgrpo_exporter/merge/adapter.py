"""What an adapter folder holds, checked before any weight is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import read_json

VISION_PARTS = ("vision_tower", "multi_modal_projector", "vision_model")
TABLES = ("embed_tokens", "lm_head")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter on disk.

    Attributes:
        folder: where it is.
        tensors: the names in `adapter_model.safetensors`.
        config: `adapter_config.json`.
    """

    folder: Path
    tensors: frozenset[str]
    config: dict[str, Any]


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter's names and configuration.

    Raises:
        UserError: missing files, not LoRA, or tensors that cannot be merged soundly: the vision
            tower, or tables that the model uses twice.
    """
    config = read_json(folder / "adapter_config.json")
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise UserError(
            f"expected {weights}, found none. Pickled adapters (.bin) are not read; train the run "
            "to its end (make train) or name another --run"
        )
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UserError(f"{folder}: expected a LoRA adapter, found peft_type {kind!r}")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="np") as file:
            tensors = frozenset(file.keys())
    except SafetensorError as error:
        raise UserError(f"{weights} is not a whole safetensors file ({error})") from None
    _refuse(
        tensors,
        VISION_PARTS,
        f"{folder}: the adapter changes the vision tower",
        "The tower is not part of the text model that is trained, checked and exported; keep it "
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
    return Adapter(folder, tensors, config)


def _refuse(tensors: frozenset[str], parts: tuple[str, ...], what: str, advice: str) -> None:
    found = sorted(name for name in tensors if any(part in name for part in parts))
    if found:
        raise UserError(f"{what} ({len(found)} tensors, such as {found[0]}). {advice}")
