"""What is asked: the model behind `--run` or `--model`, checked before anything is loaded."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xmlgrpo_gguf.header import require_gguf
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import DEFAULT_TASK
from xmlgrpo_run.files import read_json
from xmlgrpo_run.folder import MERGE_RECORD, RunFolder, find_run, model_source
from xmlgrpo_run.manifest import (
    read_manifest,
    require_as_trained,
    require_checked,
    require_compared,
    run_around,
)
from xmlgrpo_run.safetensors_header import tensor_shapes
from xmlgrpo_trainer.config.defaults import GRPO_DEFAULTS
from xmlgrpo_trainer.model.load import check_model_folder


@dataclass(frozen=True, slots=True)
class Source:
    """A model that can be asked."""

    kind: Literal["transformers", "gguf"]
    name: str  # a Hub id, a folder or a GGUF file; the base where there is an adapter
    revision: str | None = None  # the Hub commit of `name`
    adapter: Path | None = None  # the folder of a LoRA adapter over `name`
    quantized: bool = False  # the adapter was trained over 4-bit weights
    task: str = DEFAULT_TASK  # whose prompt is used
    max_new_tokens: int = GRPO_DEFAULTS["max_completion_length"]  # where none are asked for


def of_run(name: str, *, merged: bool, base: str | None = None) -> Source:
    """The adapter of a finished run over its base, or its merged model.

    Replies may be as long as those to the run's held-out problems.  `base` is used in place of the
    base that the run was trained from.

    Raises:
        UserError: no such run, not finished, or the part that is asked for is not there.
    """
    run = find_run(name)
    manifest = read_manifest(run)
    task, tokens = manifest.task, manifest.max_reply_tokens
    if merged:
        if not (run.merged / "config.json").is_file():
            raise UserError(f"{run.root} has no merged model yet: make merge RUN={name}")
        merged_model = str(require_compared(run.merged))
        return Source("transformers", merged_model, task=task, max_new_tokens=tokens)
    _check_adapter(run.adapter)
    require_as_trained(run, manifest, run.adapter)
    return Source(
        "transformers",
        model_source(base) if base else manifest.base.source(run),
        revision=None if base else manifest.base.revision,
        adapter=run.adapter,
        quantized=manifest.base.quantized_4bit,
        task=task,
        max_new_tokens=tokens,
    )


def of_model(name: str, task: str | None = None, base: str | None = None) -> Source:
    """A GGUF file, an adapter's folder, a model's folder, or a Hub id.

    `base` is used in place of the one that an adapter names.  Without a `task` it is that of the
    run in whose folder the model lies.

    Raises:
        UserError: the path holds none of these.
    """
    path = Path(name).expanduser()
    if task is None:
        run = run_around(name)
        task = read_manifest(run).task if run else DEFAULT_TASK
    if (path / "adapter_config.json").is_file():
        return _of_adapter(path, task, base)
    if base:
        raise UserError(f"--base goes with an adapter, and {name!r} is none")
    if path.suffix.lower() == ".gguf" or path.is_file():
        require_gguf(path)
        return Source("gguf", str(require_checked(path)), task=task)
    if RunFolder(path).manifest.is_file() and not (path / "config.json").is_file():
        raise UserError(f"{name!r} is a run folder; ask it with --run {shlex.quote(name)}")
    if (path / MERGE_RECORD).is_file():
        require_compared(path)
    check_model_folder(str(path))
    return Source("transformers", model_source(name), task=task)


def _of_adapter(folder: Path, task: str, base: str | None) -> Source:
    _check_adapter(folder)
    settings = read_json(folder / "adapter_config.json")
    named = base or settings.get("base_model_name_or_path")
    if not isinstance(named, str):
        raise UserError(f"{folder / 'adapter_config.json'} names no base model; name it: --base")
    source = model_source(named) if base else _base_of(folder, named)
    revision = None if base else settings.get("revision")
    return Source("transformers", source, revision=revision, adapter=folder, task=task)


def _base_of(adapter: Path, named: str) -> str:
    """What the adapter's base is loaded from; where it has moved, the adapter's run may know."""
    if (adapter / named).is_dir() and not Path(named).is_dir():
        return str((adapter / named).absolute())
    try:
        return model_source(named)
    except UserError:
        run = RunFolder(adapter.parent)
        moved = read_manifest(run).base.folder(run) if run.manifest.is_file() else None
        if moved:
            return str(moved)
        raise UserError(
            f"the base model of the adapter {str(adapter)!r} is not at {named} any more; say where "
            "it is: --base"
        ) from None


def _check_adapter(folder: Path) -> None:
    parts = ("adapter_config.json", "adapter_model.safetensors")
    missing = [part for part in parts if not (folder / part).is_file()]
    if missing:
        raise UserError(
            f"the adapter {str(folder)!r} has no {' and no '.join(missing)}; train the run again, "
            "or name another"
        )
    tensor_shapes(folder / "adapter_model.safetensors")
