"""lm-eval, opened: its models and its tasks, with our errors for the user's mistakes."""

import gc
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from xmlgrpo_evaluator.models import Model
from xmlgrpo_evaluator.settings import REPEATED, Settings
from xmlgrpo_rewards.errors import UserError

DEFAULT_BATCH = 16
"""Replies that transformers writes at once, unless the user says otherwise."""
GSM8K_IDS = ("gsm8k", "openai/gsm8k")
"""Names under which stock tasks ask the Hub for GSM8K."""


def quieten() -> None:
    """Leave the screen to our own lines; `LMEVAL_LOG_LEVEL` brings lm-eval's back."""
    logging.getLogger("lm_eval").setLevel(os.environ.get("LMEVAL_LOG_LEVEL", "ERROR"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def task_folder() -> Path:
    """The folder with our task definitions: beside the package when installed, or the checkout's.

    Raises:
        UserError: it is in neither place.
    """
    here = Path(__file__).resolve()
    places = [here.parent / "eval_tasks", *(parent / "eval_tasks" for parent in here.parents[3:5])]
    for place in places:
        if (place / "gsm8k_xml").is_dir():
            return place
    raise UserError(
        "the folder eval_tasks is missing from this installation; run from a checkout, or name it "
        "with --include_path"
    )


# models


@contextmanager
def opened(model: Model, settings: Settings) -> Iterator[LM]:
    """Load a model behind its lm-eval class; its memory is given back at the end.

    Raises:
        UserError: it is not there, cannot be read, or needs a package that is not installed.
    """
    options = {**model.options, **settings.model_args}
    if model.backend == "llama-cpp":
        from xmlgrpo_evaluator.llama_cpp_lm import LlamaCppLM

        gguf = LlamaCppLM(
            model.source, batch_size=settings.batch_size, seed=settings.seed, **options
        )
        try:
            yield gguf
        finally:
            gguf.gguf.close()
        return
    load = _open_vllm if model.backend == "vllm" else _open_hf
    try:
        loaded = load(model, settings, options)
    except (OSError, ValueError) as error:
        what = f"{model.source} with adapter {model.adapter}" if model.adapter else model.source
        raise UserError(f"cannot load {what}: {error}") from error
    try:
        yield loaded
    finally:
        for name in ("_model", "model"):  # the caller may still hold the object around them
            loaded.__dict__.pop(name, None)
        gc.collect()


def _open_hf(model: Model, settings: Settings, options: dict[str, Any]) -> LM:
    import torch

    from xmlgrpo_evaluator.hf_lm import CountedHF

    device = options.pop("device", "cuda" if torch.cuda.is_available() else "cpu")
    return CountedHF(
        pretrained=model.source,
        tokenizer=model.tokenizer,
        revision=model.revision or "main",
        peft=model.adapter,
        batch_size=settings.batch_size or DEFAULT_BATCH,
        device=device,
        **options,
    )


def _open_vllm(model: Model, settings: Settings, options: dict[str, Any]) -> LM:
    from lm_eval.api.registry import get_model

    adapter = {"lora_local_path": model.adapter} if model.adapter else {}
    try:
        return get_model("vllm")(
            pretrained=model.source,
            tokenizer=model.tokenizer,
            revision=model.revision,
            batch_size=settings.batch_size or "auto",
            seed=settings.seed,
            **adapter,
            **options,
        )
    except ModuleNotFoundError as error:
        raise UserError(f"vllm is not installed ({error}); use --backend hf") from None


def training_tokenizer(model: Model) -> Any | None:
    """The tokenizer that prompts are compared with; None for a GGUF of unknown origin."""
    place = model.tokenizer or (None if model.backend == "llama-cpp" else model.source)
    if place is None:
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(place, revision=model.revision or "main")


def bos_of(model: Any) -> int | None:
    """Id of the BOS of an lm-eval model; None without one."""
    gguf = getattr(model, "gguf", None)
    if gguf is not None:
        return None if gguf.bos < 0 else int(gguf.bos)
    bos = getattr(getattr(model, "tokenizer", None), "bos_token_id", None)
    return None if bos is None else int(bos)


# tasks


@contextmanager
def open_tasks(model: Model, settings: Settings) -> Iterator[tuple[TaskManager, list[Any]]]:
    """Load the tasks; gives the manager and the tasks as `simple_evaluate` wants them.

    Raises:
        UserError: no task has that name, or its data cannot be had.
    """
    names = [_form(name, settings.k) for name in settings.tasks]
    metadata: dict[str, Any] = {
        "pretrained": model.tokenizer or model.source,
        "reply_limit": settings.max_new_tokens,
    }
    if settings.data:
        metadata["data"] = str(settings.data)
    with TemporaryDirectory(prefix="xmlgrpo-tasks-") as scratch:
        paths = [task_folder(), *settings.include_path, Path(scratch)]
        # lm-eval's own tasks are thousands of files to read: only where one of them is asked for
        manager = TaskManager(include_path=paths, include_defaults=False, metadata=metadata)
        if not set(names) <= set(manager.all_tasks):
            manager = TaskManager(include_path=paths, metadata=metadata)
        _check_names(names, manager)
        if _redirect_gsm8k(names, manager, settings, Path(scratch)):
            manager = TaskManager(include_path=paths, metadata=metadata)
        try:
            loaded = manager.load(names)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"cannot load the task {', '.join(names)}: {error}") from error
        for name, task in loaded["tasks"].items():
            if name.endswith(REPEATED) and settings.k > 1:
                task.set_config("repeats", settings.k)
        found = {**loaded["tasks"], **loaded.get("groups", {})}
        yield manager, [found.get(name, name) for name in names]


def _form(name: str, k: int) -> str:
    return f"{name}{REPEATED}" if k > 1 and not name.endswith(REPEATED) else name


def _check_names(names: Sequence[str], manager: TaskManager) -> None:
    for name in names:
        if name in manager.all_tasks:
            continue
        near = get_close_matches(name, manager.all_tasks, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "list them with: lm_eval ls tasks"
        if name.endswith(REPEATED):
            hint = f"{name.removesuffix(REPEATED)} has no form with several replies; leave --k out"
        raise UserError(f"lm-eval knows no task named {name!r}; {hint}")


def _redirect_gsm8k(
    names: Sequence[str], manager: TaskManager, settings: Settings, scratch: Path
) -> bool:
    """Let stock GSM8K tasks read the local items too, so that all tasks ask the same ones."""
    from lm_eval.tasks._yaml_loader import load_yaml

    place = settings.data or (Path(d) if (d := os.environ.get("GSM8K_DIR")) else None)
    if place is None:
        return False
    test = place if place.is_file() else place / "test.jsonl"
    train = test.parent / "train.jsonl"
    redirected = False
    for name in names:
        path = manager.task_index[name].yaml_path
        if path is None:
            continue
        config = load_yaml(path, resolve_func=False, recursive=True)
        if config.get("dataset_path") not in GSM8K_IDS:
            continue
        files = {"test": str(test), "train": str(train if train.is_file() else test)}
        (scratch / f"{name}.yaml").write_text(
            f"include: {path}\ntask: {name}\ndataset_path: json\ndataset_name: null\n"
            f"dataset_kwargs: {{data_files: {files}}}\n",
            encoding="utf-8",
        )
        redirected = True
    return redirected
