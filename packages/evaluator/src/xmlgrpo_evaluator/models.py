"""What is evaluated: a model of a run, or any model by path or Hub id."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import one_line
from xmlgrpo_rewards.rows import expanded
from xmlgrpo_run.digests import digest, model_files, weight_files
from xmlgrpo_run.files import check_small_files
from xmlgrpo_run.folder import MERGE_RECORD, RunFolder, model_source
from xmlgrpo_run.manifest import (
    Manifest,
    loaded_commit,
    require_as_trained,
    require_checked,
    require_compared,
)
from xmlgrpo_run.safetensors_header import safetensors_files, tensor_shapes

Backend = Literal["hf", "vllm", "llama-cpp"]
COMMIT = re.compile("[0-9a-f]{40}")
HUB_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Model:
    """A model to evaluate."""

    label: str  # in tables and file names
    backend: Backend  # which lm-eval model runs it
    source: str  # folder, file or Hub id of the weights
    adapter: str | None = None  # folder or Hub id of a LoRA adapter on top
    tokenizer: str | None = None  # where it is, when not with the weights
    revision: str | None = None  # commit of `source` on the Hub
    options: Mapping[str, Any] = field(default_factory=dict)  # for the lm-eval model

    def __str__(self) -> str:
        return f"{self.source} with adapter {self.adapter}" if self.adapter else self.source

    @property
    def places(self) -> list[Path]:
        """Where its weights are; for a Hub id, no file is there."""
        return [Path(place) for place in (self.source, self.adapter) if place]

    def weights(self) -> list[Path]:
        """The files that hold its weights; none for a Hub id."""
        return [path for place in self.places for path in weight_files(place)]

    def size_bytes(self) -> int | None:
        """Size of the weights on disk; None for a Hub id."""
        return sum(path.stat().st_size for path in self.weights()) or None

    def identity(self) -> dict[str, Any]:
        """What tells this model from another one under the same name; JSON values."""
        elsewhere = self.tokenizer not in (None, self.source, self.adapter)
        tokenizer = Path(self.tokenizer or "") if elsewhere else None
        return {
            "source": self.source,
            "adapter": self.adapter,
            "revision": self.revision,
            "content": digest(model_files(*self.places, tokenizer=tokenizer)),
        }


def run_model(run: RunFolder, manifest: Manifest, what: str) -> Model:
    """One of a run's models.

    `what` is `base`, `tuned` (base and adapter), `merged`, or a file name under `gguf/`, with or
    without its `.gguf`.

    Raises:
        UserError: that model has not been made, or the base is gone.
    """
    tokenizer = str(run.adapter)
    if what in ("base", "tuned"):
        base = manifest.base
        options: dict[str, Any] = {"dtype": base.dtype}
        if base.quantized_4bit:
            options |= {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"}
        adapter = None
        if what == "tuned":
            _require(run.adapter / "adapter_config.json", f"make train RUN={run.called}")
            adapter = str(require_as_trained(run, manifest, run.adapter))
        source = base.source(run)
        return Model(what, "hf", source, adapter, tokenizer, base.revision, options)
    if what == "merged":
        _require(run.merged / "config.json", f"make merge RUN={run.called}")
        return Model(what, "hf", str(require_compared(run.merged)), options={"dtype": "auto"})
    path = run.gguf / (what if what.endswith(".gguf") else f"{what}.gguf")
    _require(path, f"make gguf RUN={run.called}")
    return Model(path.stem, "llama-cpp", str(require_checked(path)), tokenizer=tokenizer)


def run_ladder(run: RunFolder, manifest: Manifest) -> list[Model]:
    """All models of a run that exist, from the base to the smallest file."""
    names = ["base", "tuned"]
    if os.path.lexists(run.merged):
        names.append("merged")
    files = sorted(run.gguf.glob("*.gguf"), key=lambda path: -path.stat().st_size)
    return [run_model(run, manifest, name) for name in (*names, *(path.name for path in files))]


def any_model(
    source: str, *, adapter: str | None, tokenizer: str | None, backend: str | None
) -> Model:
    """A model by path or Hub id: a transformers folder, a .gguf file, or either on the Hub.

    A GGUF on the Hub is named by repository and file: `org/name/file.gguf`.

    Raises:
        UserError: nothing is there, a folder without a model, or an adapter on a GGUF.
    """
    path = expanded(Path(source), "--model")
    adapter, tokenizer = adapter and model_source(adapter), tokenizer and model_source(tokenizer)
    if source.endswith(".gguf"):
        if adapter:
            raise UserError(
                f"an adapter cannot be put on a GGUF ({source}); merge its run: make merge RUN=..."
            )
        file = require_checked(path.absolute()) if path.is_file() else _download_gguf(source)
        return Model(file.stem, "llama-cpp", str(file), tokenizer=tokenizer)
    if path.is_dir() and not (path / "config.json").is_file():
        files = sorted(file.name for file in path.glob("*.gguf"))
        hint = f"name one of {', '.join(files)}" if files else "is it the right folder?"
        raise UserError(f"{path} is a folder without config.json, so not a model; {hint}")
    if not path.is_dir() and (source.count("/") != 1 or source[0] in "./~"):
        raise UserError(
            f"no model at {source!r}: expected a folder, a .gguf file or a Hub id (org/name)"
        )
    if (path / MERGE_RECORD).is_file():
        require_compared(path)
    label = path.resolve().name if path.is_dir() else source.replace("/", "--")
    run_by: Backend = "vllm" if backend == "vllm" else "hf"
    return Model(label, run_by, model_source(source), adapter, tokenizer, options={"dtype": "auto"})


def pinned(model: Model) -> Model:
    """The same model by what cannot change any more: of a Hub id the commit that it means now.

    An adapter on the Hub, which is small, is downloaded.

    Raises:
        UserError: neither the Hub nor its cache says which commit that is.
    """
    if model.adapter and not Path(model.adapter).is_dir():
        model = replace(model, adapter=_downloaded(model.adapter))
    if Path(model.source).exists() or COMMIT.fullmatch(model.revision or ""):
        return model
    return replace(model, revision=_commit(model.source, model.revision))


def _commit(name: str, revision: str | None) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_S).sha)
    except Exception as error:  # of the network's libraries, each with its own kinds
        if cached := loaded_commit(name, revision):
            return cached
        reason = one_line(str(error), 200)
        raise UserError(
            f"no model {name!r} here, and the Hub does not give it: {reason}; check the name, the "
            "network and the login (.venv/bin/hf auth login)"
        ) from error


def _downloaded(adapter: str) -> str:
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(adapter, allow_patterns=["*.json", "*.safetensors", "*.jinja"])
    except Exception as error:  # of the network's libraries, each with its own kinds
        reason = one_line(str(error), 200)
        raise UserError(
            f"no adapter {adapter!r} here, and the Hub does not give it: {reason}"
        ) from error


def check_weights(models: Iterable[Model]) -> None:
    """Look at JSON files and at every safetensors file's header: a broken one costs no loading.

    Raises:
        UserError: a folder has no safetensors file, or one is empty, cut short, or none; or it has
            a JSON file that is more than a model's is.
    """
    for model in models:
        for place in model.places:
            check_small_files(place)
            for path in safetensors_files(place) if place.is_dir() else ():
                tensor_shapes(path)


def _require(path: Path, remedy: str) -> None:
    if not path.is_file():
        raise UserError(f"no {path}; make it with: {remedy}")


def _download_gguf(source: str) -> Path:
    parts = source.split("/")
    if len(parts) < 3 or Path(source).parent.is_dir():
        raise UserError(
            f"no file {source}; a GGUF on the Hub is named org/name/file.gguf, a local one by path"
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download("/".join(parts[:2]), "/".join(parts[2:])))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"no file {source}, and the Hub does not give it: {error}") from error
