"""What an adapter folder holds, checked before any weight is loaded."""

from dataclasses import dataclass
from pathlib import Path

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import read_json
from xmlgrpo_run.safetensors_header import tensor_shapes

VISION_PARTS = (
    *("vision_tower", "multi_modal_projector", "vision_model"),
    *("audio_tower", "embed_vision", "embed_audio"),
)
TABLES = ("embed_tokens", "lm_head")


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
            "to its end (make train) or name another --run"
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
