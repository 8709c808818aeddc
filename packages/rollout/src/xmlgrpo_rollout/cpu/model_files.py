"""A Gemma 3 text model and a LoRA adapter, read from their files and not through modules.

The same `DecoderWeights` as `weights.read_weights` gives, without transformers' model classes and
peft: to import those takes several times as long as to answer a question with a small model.
Folders that `save_pretrained` of the pinned transformers wrote are read, with plain LoRA; for all
others `read_folder` gives None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.recipe import APART, GEMMA, read_recipe
from xmlgrpo_rollout.weights import DecoderWeights, LayerWeights, Rope
from xmlgrpo_run.files import read_json
from xmlgrpo_run.safetensors_header import tensor_shapes

# model type and class of the text models, which the tiny one and Gemma 3 up to 1B are
TEXT_MODEL = (GEMMA, ["Gemma3ForCausalLM"])
ROPES = {"default": {"rope_type", "rope_theta"}, "linear": {"rope_type", "rope_theta", "factor"}}
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
        rope_parameters: transformers' own, for each kind of layer.
        context: the longest text, in tokens.
    """

    weights: DecoderWeights
    rope_parameters: Mapping[str, Mapping[str, Any]]
    context: int

    def rope(self, positions: int) -> Rope:
        """Cosine and sine of the rotary embedding for places 0 to `positions` - 1."""
        places_T = torch.arange(positions, dtype=torch.float32)
        powers_D = torch.arange(0, self.weights.recipe.head_dim, 2, dtype=torch.float32)
        powers_D /= self.weights.recipe.head_dim
        rope = {}
        for kind in sorted(set(self.weights.recipe.tables)):
            rope_of = self.rope_parameters[kind]
            turns_D = 1.0 / rope_of["rope_theta"] ** powers_D / rope_of.get("factor", 1.0)
            angles_T_D = torch.outer(places_T, turns_D).repeat(1, 2)
            dtype = self.weights.dtype
            rope[kind] = (angles_T_D.cos().to(dtype), angles_T_D.sin().to(dtype))
        return rope


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
    lora = {} if adapter is None else read_json(adapter / "adapter_config.json")
    if not _is_readable(config) or (adapter is not None and not _is_plain(lora)):
        return None
    base = _Tensors(sorted(folder.glob("*.safetensors")), f"the model in {folder}")
    changes = None
    if adapter is not None:
        changes = _Tensors([adapter / "adapter_model.safetensors"], f"the adapter in {adapter}")
    hidden, recipe = config["hidden_size"], read_recipe(config)
    shapes = _projection_shapes(config)

    def matrix(module: str) -> Tensor:
        name = module.rpartition(".")[2]
        rows, columns = shapes[name]
        weight = base.read(f"{module}.weight", (rows, columns), dtype)
        if changes is None or name not in lora["target_modules"]:
            return weight
        place, rank = f"base_model.model.{module}", lora["r"]  # as peft calls it
        down = changes.read(f"{place}.lora_A.weight", (rank, columns), dtype)
        up = changes.read(f"{place}.lora_B.weight", (rows, rank), dtype)
        root = rank**0.5 if lora.get("use_rslora") else rank
        return torch.addmm(weight, up, down, alpha=lora["lora_alpha"] / root)

    def norm(module: str) -> Tensor:
        size = recipe.head_dim if module.endswith(("q_norm", "k_norm")) else hidden
        return recipe.norm_offset + base.read(f"{module}.weight", (size,), torch.float32)

    def layer(number: int) -> LayerWeights:
        place = f"model.layers.{number}"
        norms = {field: norm(f"{place}.{name}") for field, name in recipe.norms.items()}
        norms["query_norm"] *= recipe.query_factor
        joined = {
            field: torch.cat([matrix(f"{place}.{name}") for name in names])
            for field, names in recipe.projections.items()
        }
        kind, table = recipe.kinds[number], recipe.tables[number]
        return LayerWeights(kind=kind, table=table, biases={}, **joined, **norms)

    vocabulary = (config["vocab_size"], hidden)
    embedding = base.read("model.embed_tokens.weight", vocabulary, dtype)
    tied = config["tie_word_embeddings"]
    weights = DecoderWeights(
        recipe=recipe,
        embedding=embedding,
        embedding_scale=torch.tensor(hidden**0.5).to(dtype),
        layers=tuple(map(layer, range(config["num_hidden_layers"]))),
        final_norm=norm("model.norm"),
        head=embedding if tied else base.read("lm_head.weight", vocabulary, dtype),
    )
    if changes is not None:
        changes.require_all_read()
    return FolderModel(weights, config["rope_parameters"], config["max_position_embeddings"])


def _projection_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    hidden, mlp, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query, key = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    return {
        "q_proj": (query, hidden),
        "k_proj": (key, hidden),
        "v_proj": (key, hidden),
        "o_proj": (hidden, query),
        "gate_proj": (mlp, hidden),
        "up_proj": (mlp, hidden),
        "down_proj": (hidden, mlp),
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


def _is_readable(config: Mapping[str, Any]) -> bool:
    if (config.get("model_type"), config.get("architectures")) != TEXT_MODEL:
        return False
    odd = (
        "attention_bias",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "quantization_config",
        "use_bidirectional_attention",
    )
    ropes, kinds = config.get("rope_parameters"), config.get("layer_types")
    return (
        not any(config.get(name) for name in odd)
        and config.get("hidden_activation") == "gelu_pytorch_tanh"
        and isinstance(kinds, list)
        and isinstance(ropes, dict)
        and all(_is_known_rope(ropes.get(kind)) for kind in kinds)
    )


def _is_known_rope(rope: object) -> bool:
    return isinstance(rope, dict) and rope.keys() == ROPES.get(rope.get("rope_type", ""))


def _is_plain(lora: Mapping[str, Any]) -> bool:
    names = {name.rpartition(".")[2] for names in APART.values() for name in names}
    targets = lora.get("target_modules")
    return (
        lora.get("peft_type") == "LORA"
        and lora.get("bias") == "none"
        and lora.get("init_lora_weights") in {True, False, "gaussian"}
        and isinstance(targets, list)
        and set(targets) <= names
        and not any(value for name, value in lora.items() if name not in PLAIN_LORA)
    )
