"""A text model of a known family and a LoRA adapter, read from files and not through modules.

The same `DecoderWeights` as `weights.read_weights` gives, without transformers' model classes and
peft: to import those takes several times as long as to answer a question with a small model.
Folders that `save_pretrained` of the pinned transformers wrote are read, with plain LoRA; for all
others `read_folder` gives None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.recipe import FAMILIES, UNTURNED, Recipe, read_recipe
from xmlgrpo_rollout.weights import DecoderWeights, LayerWeights, Rope
from xmlgrpo_rollout.which_engine import why_not_described
from xmlgrpo_run.files import read_json
from xmlgrpo_run.safetensors_header import tensor_shapes

NEEDED = {"vocab_size", "intermediate_size", "max_position_embeddings", "tie_word_embeddings"}
# Fields of an adapter's configuration that may hold something: with any other the adapter is more
# than W + s B A, or peft prepares it in its own way.
PLAIN_LORA = {
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "inference_mode",
    "init_lora_weights",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "target_modules",
    "task_type",
    "use_rslora",
}


@dataclass(frozen=True, slots=True)
class FolderModel:
    """A model as its folder holds it.

    Attributes:
        weights: with the adapter merged in.
        config: what `config.json` holds.
        context: the longest text, in tokens.
    """

    weights: DecoderWeights
    config: Mapping[str, Any]
    context: int

    def rope(self, positions: int) -> Rope:
        """Cosine and sine of the rotary embedding for places 0 to `positions` - 1."""
        places_T, dtype = torch.arange(positions, dtype=torch.float32), self.weights.dtype
        rope = {}
        for table in sorted(set(self.weights.recipe.tables)):
            turns_H, factor = self._turns(table)
            angles_T_D = torch.outer(places_T, turns_H).repeat(1, 2)
            cosine_T_D, sine_T_D = angles_T_D.cos() * factor, angles_T_D.sin() * factor
            rope[table] = (cosine_T_D.to(dtype), sine_T_D.to(dtype))
        return rope

    def _turns(self, table: str) -> tuple[Tensor, float]:
        """How far each pair of numbers turns from place to place; a factor of cosine and sine."""
        size = self.weights.recipe.head_dim
        if table == UNTURNED:
            return torch.zeros(size // 2), 1.0
        ropes = self.config["rope_parameters"]
        rope_of = ropes.get(table, ropes)
        if rope_of["rope_type"] != "default":
            described = {**self.config, "rope_parameters": rope_of, "head_dim": size}
            config: Any = SimpleNamespace(standardize_rope_params=lambda: None, **described)
            turns_H, factor = ROPE_INIT_FUNCTIONS[rope_of["rope_type"]](config, torch.device("cpu"))
            return turns_H, factor
        size = int(size * rope_of.get("partial_rotary_factor", 1.0))
        powers_H = torch.arange(0, size, 2, dtype=torch.float32) / size
        return 1.0 / rope_of["rope_theta"] ** powers_H, 1.0


def read_folder(folder: Path, adapter: Path | None, dtype: torch.dtype) -> FolderModel | None:
    """Read a model's folder, and an adapter's.

    Args:
        folder: with `config.json` and safetensors weights.
        adapter: with `adapter_config.json` and `adapter_model.safetensors`.
        dtype: of the weights that are given back.

    Returns:
        None for a model or an adapter of another kind.

    Raises:
        UserError: a file is broken, or holds other weights than its configuration describes.
    """
    config = read_json(folder / "config.json")
    recipe = _recipe(config)
    lora = {} if adapter is None else read_json(adapter / "adapter_config.json")
    if recipe is None or (adapter is not None and not _is_plain(lora, recipe)):
        return None
    base = _Tensors(sorted(folder.glob("*.safetensors")), f"the model in {folder}")
    changes = None
    if adapter is not None:
        changes = _Tensors([adapter / "adapter_model.safetensors"], f"the adapter in {adapter}")
    hidden, shapes = config["hidden_size"], _projection_shapes(config, recipe)

    def matrix(module: str) -> Tensor:
        name = module.rpartition(".")[2]
        rows, columns = shapes[name]
        weight = base.read(f"{module}.weight", (rows, columns), dtype)
        targets: list[str] = lora.get("target_modules", [])
        if changes is None or not any(f".{module}".endswith(f".{target}") for target in targets):
            return weight
        place, rank = f"base_model.model.{module}", lora["r"]  # as peft calls it
        down = changes.read(f"{place}.lora_A.weight", (rank, columns), dtype)
        up = changes.read(f"{place}.lora_B.weight", (rows, rank), dtype)
        root = rank**0.5 if lora.get("use_rslora") else rank
        return torch.addmm(weight, up, down, alpha=lora["lora_alpha"] / root)

    def bias(module: str) -> Tensor:
        rows, _ = shapes[module.rpartition(".")[2]]
        return base.read(f"{module}.bias", (rows,), dtype)

    def norm(module: str) -> Tensor:
        heads = {"q_norm": recipe.heads, "k_norm": recipe.kv_heads}.get(module.rpartition(".")[2])
        together = heads if heads and recipe.norms_all_heads else 1
        size = together * recipe.head_dim if heads else hidden
        return recipe.norm_offset + base.read(f"{module}.weight", (size,), torch.float32)

    def layer(number: int) -> LayerWeights:
        place = f"model.layers.{number}"
        norms = {field: norm(f"{place}.{name}") for field, name in recipe.norms.items()}
        if "query_norm" in norms:
            norms["query_norm"] *= recipe.query_factor
        joined = {
            field: torch.cat([matrix(f"{place}.{name}") for name in names])
            for field, names in recipe.projections.items()
        }
        biases = {
            field: torch.cat([bias(f"{place}.{name}") for name in names])
            for field, names in recipe.projections.items()
            if base.has(f"{place}.{names[0]}.bias")
        }
        kind, table = recipe.kinds[number], recipe.tables[number]
        return LayerWeights(kind=kind, table=table, biases=biases, **joined, **norms)

    vocabulary = (config["vocab_size"], hidden)
    embedding = base.read("model.embed_tokens.weight", vocabulary, dtype)
    tied = config["tie_word_embeddings"]
    weights = DecoderWeights(
        recipe=recipe,
        embedding=embedding,
        embedding_scale=embedding.new_tensor(recipe.embedding_factor),
        layers=tuple(map(layer, range(config["num_hidden_layers"]))),
        final_norm=norm("model.norm"),
        head=embedding if tied else base.read("lm_head.weight", vocabulary, dtype),
    )
    if changes is not None:
        changes.require_all_read()
    return FolderModel(weights, config, config["max_position_embeddings"])


def _projection_shapes(config: Mapping[str, Any], recipe: Recipe) -> dict[str, tuple[int, int]]:
    hidden, mlp, head = config["hidden_size"], config["intermediate_size"], recipe.head_dim
    query, key = recipe.heads * head, recipe.kv_heads * head
    return {
        "q_proj": (query, hidden),
        "k_proj": (key, hidden),
        "v_proj": (key, hidden),
        "o_proj": (hidden, query),
        "gate_proj": (mlp, hidden),
        "up_proj": (mlp, hidden),
        "down_proj": (hidden, mlp),
        "qkv_proj": (query + 2 * key, hidden),
        "gate_up_proj": (2 * mlp, hidden),
    }


class _Tensors:
    """The tensors of some safetensors files, by name; `what` they are, for errors."""

    def __init__(self, paths: Sequence[Path], what: str) -> None:
        self._misfit = f"{what} does not fit its configuration or its base"
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._files: dict[str, Any] = {}
        for path in paths:
            shapes = tensor_shapes(path)
            self._shapes |= shapes
            self._files |= dict.fromkeys(shapes, safe_open(path, "pt"))

    def has(self, name: str) -> bool:
        """Whether there is such a tensor that was not read yet."""
        return name in self._shapes

    def read(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor that must be there, in this shape."""
        got = self._shapes.pop(name, None)
        if got != shape:
            wrong = "is missing" if got is None else f"has the shape {list(got)}"
            raise UserError(
                f"{self._misfit}: {name} {wrong}, expected {list(shape)}; it is incomplete, or "
                "belongs to another model"
            )
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor.to(dtype)

    def require_all_read(self) -> None:
        """See that there was nothing else."""
        if others := sorted(self._shapes):
            raise UserError(
                f"{self._misfit}: {others[0]} is not expected, one of {len(others)} that are not; "
                "it belongs to another model"
            )


def _recipe(config: Mapping[str, Any]) -> Recipe | None:
    """None for a model that has none, or whose configuration leaves to transformers what it is."""
    family = FAMILIES.get(str(config.get("model_type")))
    named = config.get("architectures")
    if family is None or named != [family.model_class] or "quantization_config" in config:
        return None
    if why_not_described(config) is not None or not isinstance(config.get("rope_parameters"), dict):
        return None
    try:
        recipe = read_recipe(config)
        ropes = config["rope_parameters"]
        turned = set(recipe.tables) - {UNTURNED}
        known = all({"rope_type", "rope_theta"} <= ropes.get(t, ropes).keys() for t in turned)
    except (KeyError, TypeError, AttributeError):
        return None
    return recipe if known and config.keys() >= NEEDED else None


def _is_plain(lora: Mapping[str, Any], recipe: Recipe) -> bool:
    names = {name.rpartition(".")[2] for names in recipe.projections.values() for name in names}
    targets = lora.get("target_modules")
    return (
        lora.get("peft_type") == "LORA"
        and lora.get("bias") == "none"
        and lora.get("init_lora_weights") in {True, False, "gaussian"}
        and isinstance(targets, list)
        and {str(target).rpartition(".")[2] for target in targets} <= names
        and not any(value for name, value in lora.items() if name not in PLAIN_LORA)
    )
