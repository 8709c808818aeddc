"""A Gemma 3 text model and a LoRA adapter, read from their files and not through modules.

The same `Gemma3Weights` as `weights.read_weights` gives, without transformers' model classes and
peft: to import those takes several times as long as to answer a question with a small model.
Folders that `save_pretrained` of the pinned transformers wrote are read, with plain LoRA; of all
others `read_folder` says that they are not for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.weights import JOINED, NORMS, Gemma3Weights, LayerWeights, Rope
from xmlgrpo_run.files import read_json
from xmlgrpo_run.safetensors_header import tensor_shapes

# model type and class of the text models, which the tiny one and Gemma 3 up to 1B are
TEXT_MODEL = ("gemma3_text", ["Gemma3ForCausalLM"])
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
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class FolderModel:
    """A model as its folder holds it.

    Attributes:
        weights: with the adapter merged in.
        rope_parameters: transformers' own, for each kind of layer.
        context: the longest text, in tokens.
    """

    weights: Gemma3Weights
    rope_parameters: Mapping[str, Mapping[str, Any]]
    context: int

    def rope(self, positions: int) -> Rope:
        """Cosine and sine of the rotary embedding for places 0 to `positions` - 1."""
        places_T = torch.arange(positions, dtype=torch.float32)
        powers_D = torch.arange(0, self.weights.head_dim, 2, dtype=torch.float32)
        powers_D /= self.weights.head_dim
        rope = {}
        for kind in sorted({layer.kind for layer in self.weights.layers}):
            said = self.rope_parameters[kind]
            turns_D = 1.0 / said["rope_theta"] ** powers_D / said.get("factor", 1.0)
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
    shapes = _shapes(config)
    base = _Tensors(sorted(folder.glob("*.safetensors")), f"the model in {folder}")
    base.require(shapes)
    changes = None
    if adapter is not None:
        changes = _Tensors([adapter / "adapter_model.safetensors"], f"the adapter in {adapter}")
        changes.require(_lora_shapes(shapes, lora), only=True)

    def matrix(name: str) -> Tensor:
        weight = base.read(name, dtype)
        down_name, up_name = _lora_names(name)
        if changes is None or down_name not in changes.shapes:
            return weight
        down, up = changes.read(down_name, dtype), changes.read(up_name, dtype)
        root = lora["r"] ** 0.5 if lora.get("use_rslora") else lora["r"]
        return torch.addmm(weight, up, down, alpha=lora["lora_alpha"] / root)

    def norm(name: str) -> Tensor:
        return 1 + base.read(f"{name}.weight", torch.float32)

    def layer(number: int) -> LayerWeights:
        place = f"model.layers.{number}"
        norms = {field: norm(f"{place}.{name}") for field, name in NORMS.items()}
        norms["query_norm"] *= config["query_pre_attn_scalar"] ** -0.5
        joined = {
            field: torch.cat([matrix(f"{place}.{name}.weight") for name in names])
            for field, names in JOINED.items()
        }
        return LayerWeights(kind=config["layer_types"][number], **joined, **norms)

    embedding = base.read("model.embed_tokens.weight", dtype)
    tied = config["tie_word_embeddings"]
    weights = Gemma3Weights(
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        window=config["sliding_window"],
        eps=config["rms_norm_eps"],
        embedding=embedding,
        embedding_scale=torch.tensor(config["hidden_size"] ** 0.5).to(dtype),
        layers=tuple(map(layer, range(config["num_hidden_layers"]))),
        final_norm=norm("model.norm"),
        head=embedding if tied else base.read("lm_head.weight", dtype),
    )
    return FolderModel(weights, config["rope_parameters"], config["max_position_embeddings"])


class _Tensors:
    """The tensors of some safetensors files, by name."""

    def __init__(self, paths: Sequence[Path], what: str) -> None:
        self.what = what
        self.shapes: Shapes = {}
        self._files: dict[str, Any] = {}
        for path in paths:
            found = tensor_shapes(path)
            self.shapes |= found
            self._files |= dict.fromkeys(found, safe_open(path, "pt"))

    def require(self, expected: Shapes, *, only: bool = False) -> None:
        """See that all that are expected are there; with `only`, that no others are."""
        for name, shape in expected.items():
            found = self.shapes.get(name)
            if found != shape:
                said = "is missing" if found is None else f"has the shape {list(found)}"
                raise UserError(
                    f"{self.what} does not fit its configuration or its base: {name} {said}, "
                    f"expected {list(shape)}; it is incomplete, or belongs to another model"
                )
        others = sorted(self.shapes.keys() - expected.keys()) if only else []
        if others:
            raise UserError(
                f"{self.what} does not fit its configuration or its base: {others[0]} is not "
                f"expected, one of {len(others)} that are not; it belongs to another model"
            )

    def read(self, name: str, dtype: torch.dtype) -> Tensor:
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor.to(dtype)


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


def _is_known_rope(said: object) -> bool:
    return isinstance(said, dict) and said.keys() == ROPES.get(said.get("rope_type", ""))


def _is_plain(lora: Mapping[str, Any]) -> bool:
    names = {name.rpartition(".")[2] for names in JOINED.values() for name in names}
    targets = lora.get("target_modules")
    return (
        lora.get("peft_type") == "LORA"
        and lora.get("bias") == "none"
        and lora.get("init_lora_weights") in {True, False, "gaussian"}
        and isinstance(targets, list)
        and set(targets) <= names
        and not any(value for name, value in lora.items() if name not in PLAIN_LORA)
    )


def _shapes(config: Mapping[str, Any]) -> Shapes:
    """Every tensor of the model's files."""
    hidden, mlp, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query = config["num_attention_heads"] * head
    key = config["num_key_value_heads"] * head
    of_layer: Shapes = {f"{name}.weight": (hidden,) for name in NORMS.values()}
    of_layer |= {f"self_attn.{name}_norm.weight": (head,) for name in ("q", "k")}
    of_layer |= {
        "self_attn.q_proj.weight": (query, hidden),
        "self_attn.k_proj.weight": (key, hidden),
        "self_attn.v_proj.weight": (key, hidden),
        "self_attn.o_proj.weight": (hidden, query),
        "mlp.gate_proj.weight": (mlp, hidden),
        "mlp.up_proj.weight": (mlp, hidden),
        "mlp.down_proj.weight": (hidden, mlp),
    }
    vocabulary = (config["vocab_size"], hidden)
    return {
        "model.embed_tokens.weight": vocabulary,
        "model.norm.weight": (hidden,),
        **({} if config["tie_word_embeddings"] else {"lm_head.weight": vocabulary}),
        **{
            f"model.layers.{number}.{name}": shape
            for number in range(config["num_hidden_layers"])
            for name, shape in of_layer.items()
        },
    }


def _lora_names(weight: str) -> tuple[str, str]:
    """What peft calls the two factors of a weight's change."""
    module = f"base_model.model.{weight.removesuffix('.weight')}"
    return f"{module}.lora_A.weight", f"{module}.lora_B.weight"


def _lora_shapes(shapes: Shapes, lora: Mapping[str, Any]) -> Shapes:
    """Every tensor of the adapter's file."""
    expected: Shapes = {}
    for name, shape in shapes.items():
        if name.split(".")[-2] in lora["target_modules"]:
            down, up = _lora_names(name)
            expected |= {down: (lora["r"], shape[1]), up: (shape[0], lora["r"])}
    return expected
