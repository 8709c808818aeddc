"""Load the policy: plain transformers + peft, or Unsloth, behind one function.

Unsloth must be imported before trl, transformers and peft, or its patches do not take; so
`load_policy` decides first and imports after.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.checkout import is_installed
from xmlgrpo_run.files import check_small_files
from xmlgrpo_run.manifest import loaded_commit
from xmlgrpo_run.safetensors_header import safetensors_files, tensor_shapes
from xmlgrpo_trainer.config.defaults import LORA_DEFAULTS
from xmlgrpo_trainer.config.run_config import ModelConfig, RunConfig

ALL_BUT_TEXT = r"(?!.*(language_model|lm_head)).*"  # of a model that sees or hears too


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how the model runs, and why."""

    backend: str
    device: str
    dtype: str
    reason: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The loaded model."""

    model: Any  # of transformers; of peft already when the backend attached the adapter
    tokenizer: Any  # with the chat template, padding on the left
    peft_config: Any  # the adapter still to be attached by the trainer, or None
    placement: Placement

    def commit(self, name: str, revision: str | None) -> str | None:
        """The commit of the Hub that it was loaded from; None of a folder."""
        loaded: str | None = getattr(self.model.config, "_commit_hash", None)
        return loaded or loaded_commit(name, revision)


def choose_placement(config: ModelConfig) -> Placement:
    """Decide backend, device and number type from what was asked and what is there.

    Raises:
        UserError: a GPU, 4-bit weights or Unsloth were asked for and cannot be had here.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    if config.device == "cuda" and not has_gpu:
        raise UserError(
            "model.device is 'cuda', but torch finds no CUDA GPU here. Run on a machine with one "
            "(nvidia-smi must list it, and torch must be a CUDA build: this is torch "
            f"{torch.__version__}), or set model.device=cpu for a very small model"
        )
    device = "cuda" if has_gpu and config.device != "cpu" else "cpu"
    if config.load_in_4bit and device == "cpu":
        raise UserError("model.load_in_4bit needs a CUDA GPU; set it to false on a CPU")
    backend, reason = _choose_backend(config, device)
    if config.load_in_4bit and not is_installed("bitsandbytes"):
        raise UserError(
            "model.load_in_4bit needs the package bitsandbytes: "
            ".venv/bin/pip install -r ci/requirements/unsloth.txt or set it to false"
        )
    dtype = config.dtype
    if dtype == "auto":
        # emulated, as on a T4, it would be slower than float32
        is_bfloat = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = "bfloat16" if is_bfloat else "float32"
        if device == "cuda" and dtype == "float32":
            reason += "; this GPU has no bfloat16 and Gemma 3 overflows in float16, so float32"
    if config.float16_products and (backend, dtype) != ("plain", "float32"):
        raise UserError(
            f"model.float16_products is for float32 models of the plain backend, got {dtype} and "
            f"{backend}: set model.dtype=float32 and model.backend=plain, or float16_products=false"
        )
    return Placement(backend=backend, device=device, dtype=dtype, reason=reason)


def _choose_backend(config: ModelConfig, device: str) -> tuple[str, str]:
    installed = is_installed("unsloth")
    if config.backend == "unsloth":
        if config.dtype == "float32":
            raise UserError(
                "model.dtype is 'float32', but Unsloth computes in 16 bits where the GPU can; set "
                "model.backend=plain, or model.dtype=auto"
            )
        if device == "cpu":
            raise UserError("model.backend 'unsloth' needs a CUDA GPU; set model.backend=plain")
        if not installed:
            raise UserError(
                "model.backend is 'unsloth', but the package is not installed: "
                ".venv/bin/pip install -r ci/requirements/unsloth.txt, or set model.backend=plain"
            )
        return "unsloth", "unsloth was asked for"
    if config.backend == "plain":
        return "plain", "plain was asked for"
    for holds, reason in (
        (device == "cpu", "no GPU is used"),
        (not installed, "unsloth is not installed"),
        (config.dtype == "float32", "float32 was asked for"),
        (int(os.environ.get("WORLD_SIZE", "1")) > 1, "several processes"),
    ):
        if holds:
            return "plain", f"{reason}, so plain trl and peft"
    return "unsloth", "a GPU and unsloth are there"


def load_policy(
    config: RunConfig, base: str, placement: Placement, arguments: Any = None
) -> Policy:
    """Load model and tokenizer and prepare the adapter.

    Args:
        base: the folder or Hub id that is loaded; for the tiny model its folder.
        placement: from `choose_placement`; for Unsloth, `import_unsloth` has been called.
        arguments: trl's, which decide what Unsloth loads.

    Raises:
        UserError: the model is missing, incomplete, not a causal language model, or not reachable.
    """
    from xmlgrpo_rollout.attention_guard import guard_transformers

    check_model_folder(base)
    try:
        if placement.backend == "unsloth":
            from xmlgrpo_trainer.model.unsloth import load

            model, tokenizer = load(config, base, placement.dtype, arguments)
            policy = Policy(model, tokenizer, None, placement)
        else:
            policy = _load_plain(config.model, base, config.lora, placement)
    except UserError:
        raise
    except Exception as error:  # a broken folder fails in many libraries' own ways
        raise UserError(load_failure(base, error)) from error
    guard_transformers()  # last: Unsloth puts its own attention there
    return policy


def _load_plain(
    config: ModelConfig, name: str, lora: dict[str, Any], placement: Placement
) -> Policy:
    import torch
    from peft import LoraConfig
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    if Path(name).is_dir():
        described = AutoConfig.from_pretrained(name, trust_remote_code=False)
        _check_size(Path(name), described.get_text_config())
    dtype = getattr(torch, placement.dtype)
    quantization = None
    if config.load_in_4bit:
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    tokenizer = AutoTokenizer.from_pretrained(name, revision=config.revision, padding_side="left")
    model, loading = AutoModelForCausalLM.from_pretrained(
        name,
        output_loading_info=True,
        revision=config.revision,
        dtype=dtype,
        attn_implementation=config.attn_implementation,
        quantization_config=quantization,
        device_map={"": torch.cuda.current_device()} if quantization else None,
        use_safetensors=True,
    )
    missing = sorted(loading["missing_keys"])
    if missing:  # transformers only warns, and takes random ones
        raise UserError(
            f"the model {name!r} is incomplete: its files lack {missing[0]}, one of {len(missing)} "
            "weights that are not there; fetch or save it again"
        )
    if config.float16_products:
        from xmlgrpo_trainer.model.float16_products import narrow_products

        narrow_products(model)
    if not quantization:
        model.to(placement.device)
    return Policy(model, tokenizer, LoraConfig(**lora_fields(lora, model)), placement)


def _check_size(folder: Path, config: Any) -> None:
    """Refuse a description of another model: transformers would first make one of that size."""
    # OPT's embeddings may be narrower than its layers
    embedded = getattr(config, "word_embed_proj_dim", config.hidden_size)
    expected = (config.vocab_size, embedded)
    for path in safetensors_files(folder):
        for name, shape in tensor_shapes(path).items():
            if name.endswith("embed_tokens.weight") and shape != expected:
                raise UserError(
                    f"{folder / 'config.json'} describes another model: it has vocab_size and "
                    f"hidden_size {expected}, but {name} in {path.name} is {shape}; fetch or save "
                    "the model again"
                )


def lora_fields(lora: dict[str, Any], model: Any) -> dict[str, Any]:
    """The adapter's fields: what was set, over the language model's projections by default.

    A model that calls its projections otherwise, as Phi-3 does, is adapted in all of them.
    """
    fields = {**LORA_DEFAULTS, "task_type": "CAUSAL_LM"}
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if not names.issuperset(LORA_DEFAULTS["target_modules"]):
        fields["target_modules"] = "all-linear"
    fields |= lora
    if any(".language_model." in name for name, _ in model.named_modules()):
        # Gemma 3 from 4B up carries a vision tower with modules of the same names, Gemma 4 more
        fields.setdefault("exclude_modules", ALL_BUT_TEXT)
    return fields


def check_model_folder(name: str) -> None:
    """Refuse a folder that holds no safetensors model, before transformers looks on the Hub.

    Raises:
        UserError: nothing is at a path, the folder is missing a part, or a JSON file in it is
            more than a model's is.
    """
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(
                f"the model folder {name!r} has no config.json; expected a folder written by "
                "save_pretrained, with safetensors weights"
            )
        safetensors_files(folder)
        check_small_files(folder)
    elif name.count("/") > 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        raise UserError(f"no model at {name!r}: expected a folder or a Hub id (org/name)")


def load_failure(name: str, error: Exception) -> str:
    """Why a model could not be loaded, in one line."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(name).is_dir():
        return f"cannot load the model in {name!r}: {type(error).__name__}: {reason}"
    return (
        f"cannot load the model {name!r}: {reason.rstrip('.')}. Check the name, the network "
        "and, for Gemma, that you accepted its licence on the Hub and are logged in "
        "(.venv/bin/hf auth login)"
    )


@contextmanager
def refusals(who: str, but: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """Whatever a library raises here is its refusal of a setting: a `UserError` with its words.

    Args:
        who: refuses, after the section whose settings they are.
        but: what is raised as it is.
    """
    try:
        yield
    except but:
        raise
    except Exception as error:  # each has its own kinds
        reason = re.sub(r"\s+", " ", str(error)).strip()  # on one line
        if " " not in reason:  # a `KeyError` has nothing but the key
            reason = f"{type(error).__name__} {reason}".strip()
        raise UserError(f"{who} refuses these settings: {reason}") from error
