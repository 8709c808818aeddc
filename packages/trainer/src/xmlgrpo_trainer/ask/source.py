"""What is asked: the model behind `--run` or `--model`, checked before anything is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xmlgrpo_gguf.header import require_gguf
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import read_json
from xmlgrpo_run.folder import RunFolder, find_run
from xmlgrpo_run.manifest import read_manifest
from xmlgrpo_run.safetensors_header import tensor_shapes
from xmlgrpo_trainer.config.defaults import GRPO_DEFAULTS

DEFAULT_TASK = "gsm8k"
DEFAULT_TOKENS: int = GRPO_DEFAULTS["max_completion_length"]


@dataclass(frozen=True, slots=True)
class Source:
    """A model that can be asked.

    Attributes:
        kind: read by transformers, or by llama.cpp.
        name: a Hub id, a folder or a GGUF file; the base where there is an adapter.
        revision: the Hub commit of `name`.
        adapter: the folder of a LoRA adapter over `name`.
        quantized: the adapter was trained over 4-bit weights.
        task: whose prompt is used.
        max_new_tokens: how long replies may get, unless said otherwise.
    """

    kind: Literal["transformers", "gguf"]
    name: str
    revision: str | None = None
    adapter: Path | None = None
    quantized: bool = False
    task: str = DEFAULT_TASK
    max_new_tokens: int = DEFAULT_TOKENS


def of_run(name: str, *, merged: bool) -> Source:
    """The adapter of a finished run over its base, or its merged model.

    Raises:
        UserError: no such run, not finished, or the part that is asked for is not there.
    """
    folder = find_run(name)
    manifest = read_manifest(folder)
    task, tokens = manifest.task, manifest.max_reply_tokens
    if merged:
        if not (folder.merged / "config.json").is_file():
            raise UserError(f"{folder.root} has no merged model yet: make merge RUN={name}")
        return Source("transformers", str(folder.merged), task=task, max_new_tokens=tokens)
    _check_adapter(folder.adapter)
    return Source(
        "transformers",
        manifest.base.source(folder),
        revision=manifest.base.revision,
        adapter=folder.adapter,
        quantized=manifest.base.quantized_4bit,
        task=task,
        max_new_tokens=tokens,
    )


def of_model(name: str, task: str = DEFAULT_TASK) -> Source:
    """A GGUF file, an adapter's folder, a model's folder, or a Hub id.

    Raises:
        UserError: the path holds none of these.
    """
    path = Path(name).expanduser()
    if path.suffix.lower() == ".gguf" or path.is_file():
        require_gguf(path)
        return Source("gguf", str(path), task=task)
    if (path / "adapter_config.json").is_file():
        _check_adapter(path)
        base = read_json(path / "adapter_config.json")
        if not isinstance(base.get("base_model_name_or_path"), str):
            raise UserError(f"{path / 'adapter_config.json'} names no base model")
        return Source(
            "transformers",
            base["base_model_name_or_path"],
            revision=base.get("revision"),
            adapter=path,
            task=task,
        )
    if RunFolder(path).manifest.is_file() and not (path / "config.json").is_file():
        raise UserError(f"{name!r} is a run folder; ask it with --run {name}")
    return Source("transformers", str(path) if path.is_dir() else name, task=task)


def _check_adapter(folder: Path) -> None:
    missing = [
        part
        for part in ("adapter_config.json", "adapter_model.safetensors")
        if not (folder / part).is_file()
    ]
    if missing:
        raise UserError(
            f"the adapter {str(folder)!r} has no {' and no '.join(missing)}; train the run again, "
            "or name another"
        )
    tensor_shapes(folder / "adapter_model.safetensors")
