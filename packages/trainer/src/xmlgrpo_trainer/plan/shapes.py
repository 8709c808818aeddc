"""The shape of a model, without its weights: what memory and time are estimated from.

It is read from a folder's `config.json`, from the Hub cache, from the tables of sizes below, or
from the settings of the tiny model.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.which_engine import is_packed, not_readable, why_not_described
from xmlgrpo_run.files import read_json
from xmlgrpo_run.folder import model_source
from xmlgrpo_trainer.config.run_config import TINY, ModelConfig

# SigLIP's vision encoder as Gemma 3 carries it (4B and up), without the projection into the text
# model, and the part of it that stands in linear layers.
VISION_WEIGHTS = 416_867_184
VISION_LINEAR_WEIGHTS = 411_070_464
VISION_HIDDEN = 1152
HEAD_DIMS = {"qwen3": 128}  # where a configuration names none and the width does not tell


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a decoder-only model."""

    name: str
    vocabulary: int  # rows of the embedding
    hidden: int  # width
    layers: int  # depth
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int  # width of the feed-forward part
    _: KW_ONLY
    window: int | None = None  # tokens that a sliding layer sees; None when every layer sees all
    full_every: int = 6  # each so-many-th layer is not sliding
    tied: bool = True  # the output head is the embedding
    vision: bool = False  # a vision tower is loaded too, though text never uses it
    context: int | None = None  # the longest text, in tokens; None where nobody says
    gemma: bool = True  # a Gemma 3
    head_norms: bool = True  # queries and keys are normed
    biased: bool = False  # the projections of queries, keys and values have biases
    obstacle: str | None = None  # why the graph engine cannot read it
    packed: bool = False  # its folder holds it in 4 bits
    beside: int = 0  # weights of what only Gemma 4 has: an embedding a layer, wider last layers

    def projections(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one decoder layer: name -> (inputs, outputs)."""
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, query),
            "k_proj": (self.hidden, key),
            "v_proj": (self.hidden, key),
            "o_proj": (query, self.hidden),
            "gate_proj": (self.hidden, self.mlp),
            "up_proj": (self.hidden, self.mlp),
            "down_proj": (self.mlp, self.hidden),
        }

    @property
    def norms(self) -> int:
        """Norms of the model's width in a layer: around each of two blocks, or before it."""
        return 4 if self.gemma else 2

    @property
    def sliding_layers(self) -> int:
        """Layers that see no more than the window."""
        return 0 if self.window is None else self.layers - self.layers // self.full_every

    @property
    def projection_weights(self) -> int:
        """Weights of all decoder layers' linear layers: what a pass multiplies with."""
        return self.layers * sum(i * o for i, o in self.projections().values())

    @property
    def linear_weights(self) -> int:
        """What 4-bit loading packs: all linear layers but the head."""
        return self.projection_weights + (VISION_LINEAR_WEIGHTS if self.vision else 0)

    @property
    def weights(self) -> int:
        """All weights that are loaded."""
        embedding = self.vocabulary * self.hidden * (1 if self.tied else 2)
        of_heads = 2 * self.head_dim if self.head_norms else 0
        norms = self.layers * (self.norms * self.hidden + of_heads) + self.hidden
        biases = (self.heads + 2 * self.kv_heads) * self.head_dim * self.layers * self.biased
        vision = VISION_WEIGHTS + VISION_HIDDEN * self.hidden if self.vision else 0
        return embedding + self.projection_weights + norms + biases + vision + self.beside

    def lora_weights(self, rank: int, targets: Any) -> int:
        """Weights of a LoRA adapter; a target that names no projection counts as all of them."""
        sizes = self.projections()
        named = [name for name in targets if name in sizes] if isinstance(targets, list) else []
        return self.layers * rank * sum(sum(sizes[name]) for name in named or sizes)

    def cached_tokens(self, tokens: int) -> int:
        """Keys that a text of so many tokens keeps, summed over layers: sliding layers forget."""
        sliding = self.sliding_layers
        return (self.layers - sliding) * tokens + sliding * min(tokens, self.window or tokens)

    def cache_bytes(self, cached: int, number_bytes: int) -> int:
        """Bytes of `cached` keys and their values."""
        return cached * 2 * self.kv_heads * self.head_dim * number_bytes


def _gemma3(size: str, *sizes: int, vision: bool) -> ModelShape:
    # transformers' multimodal checkpoints hold 64 more embedding rows than the text models
    vocabulary = 262_208 if vision else 262_144
    return ModelShape(
        f"gemma-3-{size}",
        *(vocabulary, *sizes),
        window=1024 if vision else 512,
        vision=vision,
        context=131_072 if vision else 32_768,  # by the model card
    )


# Sizes: NVIDIA-NeMo/NeMo nemo/collections/llm/gpt/model/gemma3.py (1b to 27b).  Their sums of
# weights are those that keras-hub publishes (keras_hub/src/models/gemma3/gemma3_presets.py, 270m
# too).  hidden, layers, heads, key heads, head dimension, feed-forward part:
GEMMA_3 = {
    "270m": _gemma3("270m", 640, 18, 4, 1, 256, 2048, vision=False),
    "1b": _gemma3("1b", 1152, 26, 4, 1, 256, 6912, vision=False),
    "4b": _gemma3("4b", 2560, 34, 8, 4, 256, 10240, vision=True),
    "12b": _gemma3("12b", 3840, 48, 16, 8, 256, 15360, vision=True),
    "27b": _gemma3("27b", 5376, 62, 32, 16, 128, 21504, vision=True),
}


def _other(name: str, *sizes: int, **more: Any) -> ModelShape:
    return ModelShape(name, *sizes, gemma=False, **{"head_norms": False, **more})


def _gemma4(size: str, *sizes: int, wide: int) -> ModelShape:
    hidden, layers, kv_heads, mlp, full_every = sizes
    return _other(
        f"gemma-4-{size}",
        *(262_144, hidden, layers, 8, kv_heads, 256, mlp),
        context=131_072,
        window=512,
        full_every=full_every,
        vision=True,
        head_norms=True,
        obstacle=not_readable("Gemma4ForConditionalGeneration"),
        beside=_beside(262_144, 256, hidden, layers, mlp, wide=wide),
    )


def _beside(vocabulary: int, width: int, hidden: int, layers: int, mlp: int, *, wide: int) -> int:
    """Gemma 4's embedding a layer, with its three projections, and `wide` layers twice as wide."""
    return layers * width * (vocabulary + 3 * hidden) + wide * 3 * hidden * mlp


# By the models' own `config.json`; their sums are those of the model cards.
OTHERS = (
    _other("qwen3-0.6b", 151_936, 1024, 28, 16, 8, 128, 3072, context=40_960, head_norms=True),
    _other("qwen2.5-0.5b", 151_936, 896, 24, 14, 2, 64, 4864, context=32_768, biased=True),
    _other("llama-3.2-1b", 128_256, 2048, 16, 32, 8, 64, 8192, context=131_072),
    _other("smollm2-135m", 49_152, 576, 30, 9, 3, 64, 1536, context=8192),
    _other("smollm2-360m", 49_152, 960, 32, 15, 5, 64, 2560, context=8192),
    # by google/gemma.cpp's pull request 919; within 3 % of transformers' class, for hearing is
    # not counted
    _gemma4("e2b", 1536, 35, 1, 6144, 5, wide=20),
    _gemma4("e4b", 2560, 42, 2, 10_240, 6, wide=0),
)


def find_shape(model: ModelConfig) -> ModelShape:
    """The shape of the configured model; nothing is downloaded.

    Raises:
        UserError: the folder has no readable `config.json`, or the name is not in the table and
            not in the Hub cache.
    """
    if model.name == TINY:
        return _tiny(model.tiny)
    folder = Path(model_source(model.name))
    if folder.is_dir():
        return read_shape(folder / "config.json")
    size = re.search(r"gemma-3-(270m|1b|4b|12b|27b)(?![0-9a-z])", model.name.lower())
    if size:
        return GEMMA_3[size[1]]
    for shape in OTHERS:
        if re.search(rf"{re.escape(shape.name)}(-instruct|-base|-it)?$", model.name.lower()):
            return shape
    cached = _cached_config(model)
    if cached is not None:
        return read_shape(cached)
    raise UserError(
        f"the shape of the model {model.name!r} is not known here: it is no folder, no Gemma 3 "
        f"({', '.join(GEMMA_3)}), none of {', '.join(shape.name for shape in OTHERS)} and not in "
        "the Hub cache. Fetch its config.json "
        f"(hf download {model.name} config.json) and run this again"
    )


def read_shape(path: Path) -> ModelShape:
    """Read a shape from a `config.json` of transformers.

    Raises:
        UserError: no such file, not JSON, or a size is missing or not a number above 0.
    """
    config = read_json(path)
    text = config.get("text_config") or config
    if not isinstance(text, dict):
        raise UserError(f"{path}: text_config: expected an object, got {type(text).__name__}")

    def size(key: str, default: int | None = None) -> int:
        value = text.get(key)
        value = default if value is None else value
        if type(value) is not int or value <= 0:
            raise UserError(f"{path}: {key}: expected a whole number above 0, got {value!r}")
        return value

    kind = str(config.get("model_type", ""))
    gemma = kind.startswith("gemma3")
    hidden, heads = size("hidden_size"), size("num_attention_heads", 8)
    beside = 0
    if width := text.get("hidden_size_per_layer_input"):
        wide = text.get("num_kv_shared_layers") if text.get("use_double_wide_mlp") else 0
        layers, mlp = size("num_hidden_layers"), size("intermediate_size")
        vocabulary = size("vocab_size_per_layer_input", 262_144)
        beside = _beside(vocabulary, width, hidden, layers, mlp, wide=wide or 0)
    has_context = gemma or "max_position_embeddings" in text
    return ModelShape(
        name=path.parent.name or str(path),
        vocabulary=size("vocab_size", 262_208),
        hidden=hidden,
        layers=size("num_hidden_layers"),
        heads=heads,
        kv_heads=size("num_key_value_heads", 4 if gemma else heads),
        head_dim=size("head_dim", HEAD_DIMS.get(kind, 256 if gemma else hidden // heads)),
        mlp=size("intermediate_size"),
        window=size("sliding_window", 4096) if gemma else None,
        full_every=size("sliding_window_pattern", 6),
        tied=bool(config.get("tie_word_embeddings", gemma or kind == "smollm3")),
        vision="vision_config" in config,
        context=size("max_position_embeddings", 131_072) if has_context else None,
        gemma=gemma,
        head_norms=gemma or kind == "qwen3",
        biased=kind == "qwen2" or bool(text.get("attention_bias")),
        obstacle=why_not_described(config),
        packed=is_packed(config),
        beside=beside,
    )


def _cached_config(model: ModelConfig) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model.name, "config.json", revision=model.revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _tiny(changes: Mapping[str, Any]) -> ModelShape:
    from xmlgrpo_trainer.tiny.settings import TinySettings

    tiny = dataclasses.replace(TinySettings(), **changes)
    return ModelShape(
        name=TINY,
        vocabulary=tiny.vocab_size,
        hidden=tiny.hidden_size,
        layers=tiny.layers,
        heads=tiny.heads,
        kv_heads=tiny.kv_heads,
        head_dim=tiny.head_dim,
        mlp=tiny.mlp_size,
        window=tiny.sliding_window,
        context=tiny.max_positions,
    )
