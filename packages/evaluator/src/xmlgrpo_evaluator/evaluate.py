"""Evaluate one model: lm-eval's `simple_evaluate` with the checks and records around it."""

import gc
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from xmlgrpo_evaluator.checks import (
    PromptCheck,
    bos_of,
    check_batching,
    check_prompts,
    check_room,
    training_tokenizer,
)
from xmlgrpo_evaluator.harness.resumable import ResumableLM
from xmlgrpo_evaluator.identity import plain
from xmlgrpo_evaluator.journal import EngineUse, Journal, open_journal
from xmlgrpo_evaluator.models import Model
from xmlgrpo_evaluator.progress import Screen, final_line
from xmlgrpo_evaluator.results.ladder_table import sampled_metrics, show_sampled
from xmlgrpo_evaluator.results.result import (
    RESULT_FORMAT,
    items_of,
    main_metric,
    read_result,
)
from xmlgrpo_evaluator.settings import REPEATED, Evaluation, EvaluationSettings
from xmlgrpo_evaluator.tasks import Tasks, find_tasks, left_out
from xmlgrpo_rewards.console_script import kept_on_interrupt
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_run.checkout import installed_version
from xmlgrpo_run.files import write_sealed
from xmlgrpo_run.measures.memory import peak_memory_mib, reset_peak_memory
from xmlgrpo_run.measures.summary import by_steps, metrics_of
from xmlgrpo_run.screen.say import say

PACKAGES = ("lm-eval", "transformers", "peft", "torch", "triton", "llama-cpp-python", "vllm")
DEFAULT_BATCH = 16
"""Replies that transformers' `generate` writes at once, unless the user says otherwise."""


def evaluate(evaluation: Evaluation, console: Console, *, quiet: bool = False) -> dict[str, Any]:
    """Evaluate a model and write the result.

    Replies are kept as soon as they are written; the same call after an interruption asks only for
    the rest, and after the end reads the finished result.  `quiet` shows no line per item.

    Raises:
        UserError: anything the user can correct, most of it before the first item is asked.
    """
    model, out = evaluation.model, evaluation.out
    _check_place(out)
    with closing(Screen(console, model.label, quiet=quiet)) as screen:
        screen.stage("finding task and items")
        # first: a wrong name costs no loading
        with find_tasks(evaluation) as tasks:
            screen.stage("reading what its files are")
            identity = evaluation.identity(tasks.data_digest)
            screen.close()
            if out.exists():
                result = read_result(out, identity)
                say(console, escape(f"{result['label']}: already evaluated, read from {out}"))
            else:
                words = escape(f"{model}, run by {model.backend}")
                say(console, f"[bold]{escape(model.label)}[/]: {words}")
                for line in tasks.graded:
                    say(console, escape(line))
                result = plain(_evaluated(evaluation, tasks, identity, screen))
                write_sealed(out, result)
    show_result(result, console)
    return dict(result)


def _evaluated(
    evaluation: Evaluation, tasks: Tasks, identity: Mapping[str, Any], screen: Screen
) -> dict[str, Any]:
    model, settings = evaluation.model, evaluation.settings
    screen.stage("reading the items")
    loaded_tasks = tasks.load()
    reset_peak_memory()
    prompts: list[PromptCheck] = []
    with ExitStack() as stack:
        journal = stack.enter_context(open_journal(evaluation.journal, identity))
        stack.enter_context(kept_on_interrupt(lambda: _kept(journal, model.label)))
        if journal.damaged:
            say(screen.console, escape(f"{journal.damaged}: it and what follows is asked again"))
        if journal.resumed:
            say(screen.console, f"{journal.resumed:,} replies of an earlier start are kept")
        # `auto` goes on with lm-eval's own call where that wrote all the replies of earlier starts
        continues = settings.engine == "auto" and journal.engines == {"generate"}

        def on_engine(use: EngineUse) -> None:
            if continues:
                use = replace(use, reason="it wrote the replies that are kept")
            if journal.note_engine(use):
                say(screen.console, escape(str(use)))

        screen.stage("loading the model")
        engine = "generate" if continues else settings.engine
        inner = stack.enter_context(_loaded(evaluation, engine, on_engine))

        def check(requests: Sequence[Instance]) -> None:
            prompts.append(_check_prompts(requests, evaluation, inner, screen))

        front = ResumableLM(
            inner,
            journal,
            screen,
            check=check,
            seed=settings.seed,
            seeds_requests=model.backend in ("llama-cpp", "vllm"),
        )
        screen.stage("making the prompts")
        results = _simple_evaluate(front, tasks, loaded_tasks, settings)
        speed = {**screen.speed(), "resumed_replies": journal.resumed}
        samples = results.pop("samples")
        items = settings.check_batch
        stage = screen.stage("asking a few again, alone", total=items, unit="items")
        asked = count(1)
        batch_check = check_batching(inner, samples, items, lambda: stage.update(next(asked)))
        screen.close()
        info = dict(inner.get_model_info()) if hasattr(inner, "get_model_info") else {}
        # what was asked to answer, what answered (earlier starts included) and why
        engines = {"asked": settings.engine, "answered": sorted(journal.engines)}
        engines |= {"why": [use.reason for use in journal.uses]}
        at_once = [use.at_once for use in journal.uses]
        batch_size = at_once[-1] if at_once else getattr(inner, "batch_size", settings.batch_size)
    counts = results["n-samples"]
    lost = {task.config.task: left_out(task) for task in loaded_tasks if hasattr(task, "dataset")}
    data = {
        name: items.record(counts[name]["original"], lost.get(name, ""))
        for name, items in tasks.items.items()
    }
    answered = {name: items_of(rows) for name, rows in samples.items()}
    return {
        "format": RESULT_FORMAT,
        "label": model.label,
        "backend": model.backend,
        "subject": identity,
        "batch_size": batch_size,
        "engines": engines if model.backend == "hf" else None,
        "model": {"size_bytes": model.size_bytes(), **info},
        "data": next(iter(data.values())) if len(data) == 1 else None,
        "tasks": {
            name: {
                "data": data.get(name),
                "metrics": metrics_of(items),
                "by_steps": by_steps(items),
                "items": items,
            }
            for name, items in answered.items()
        },
        "prompts": asdict(prompts[0]) | {"passed": prompts[0].passed} if prompts else None,
        "batch_check": batch_check,
        "speed": {**speed, "peak_mib": peak_memory_mib()},
        "lm_eval": {key: results[key] for key in ("results", "configs", "versions", "n-samples")},
        "format_version": FORMAT_VERSION,
        "versions": _versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@contextmanager
def _loaded(
    evaluation: Evaluation, engine: str, on_engine: Callable[[EngineUse], None]
) -> Iterator[LM]:
    """Load a model behind its lm-eval class; its memory is given back at the end.

    An HF model is asked by `engine`, whatever the settings say; `on_engine` gets what answers.

    Raises:
        UserError: it is not there, cannot be read, or needs a package that is not installed.
    """
    model, settings = evaluation.model, evaluation.settings
    options = {**model.options, **settings.model_args}
    if model.backend == "llama-cpp":
        from xmlgrpo_evaluator.harness.gguf import LlamaCppLM

        lm = LlamaCppLM(model.source, batch_size=settings.batch_size, seed=settings.seed, **options)
        with lm.gguf:
            yield lm
        return
    try:
        if model.backend == "vllm":
            lm = _load_vllm(model, settings, options)
        else:
            lm = _load_hf(model, settings, options, engine, on_engine)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load {model}: {error}") from error
    try:
        yield lm
    finally:
        for name in ("_model", "model", "_choice"):  # the caller may still hold the object
            lm.__dict__.pop(name, None)
        gc.collect()


def _load_hf(
    model: Model,
    settings: EvaluationSettings,
    options: dict[str, Any],
    engine: str,
    on_engine: Callable[[EngineUse], None],
) -> LM:
    import torch

    from xmlgrpo_evaluator.harness.hf import CountedHF

    device = options.pop("device", "cuda" if torch.cuda.is_available() else "cpu")
    return CountedHF(
        pretrained=model.source,
        tokenizer=model.tokenizer,
        revision=model.revision or "main",
        peft=model.adapter,
        engine=engine,
        slots=settings.batch_size if isinstance(settings.batch_size, int) else None,
        on_engine=on_engine,
        batch_size=settings.batch_size or DEFAULT_BATCH,
        device=device,
        **{**options, "use_safetensors": True},  # a pickle can run code
    )


def _load_vllm(model: Model, settings: EvaluationSettings, options: dict[str, Any]) -> LM:
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
            **{**options, "load_format": "safetensors"},
        )
    except ModuleNotFoundError as error:
        raise UserError(f"vllm is not installed ({error}); use --backend hf") from None


def _simple_evaluate(
    front: ResumableLM, tasks: Tasks, loaded_tasks: list[Any], settings: EvaluationSettings
) -> dict[str, Any]:
    options = dict(settings.harness)
    generation = {"max_gen_toks": settings.max_new_tokens, **options.pop("gen_kwargs", {})}
    try:
        results = lm_eval.simple_evaluate(
            model=front,
            tasks=loaded_tasks,
            task_manager=tasks.manager,
            limit=settings.limit,
            apply_chat_template=settings.chat_template,
            gen_kwargs=generation,
            log_samples=True,
            random_seed=settings.seed,
            numpy_random_seed=settings.seed,
            torch_random_seed=settings.seed,
            fewshot_random_seed=settings.seed,
            **options,
        )
    except TypeError as error:
        if "simple_evaluate()" not in str(error):
            raise
        raise UserError(f"lm-eval: {error}") from error
    return dict(results)


def _check_prompts(
    requests: Sequence[Instance], evaluation: Evaluation, inner: Any, screen: Screen
) -> PromptCheck:
    screen.stage("loading training's tokenizer")
    tokenizer = training_tokenizer(evaluation)
    stage = screen.stage("checking the prompts", total=len(requests), unit="prompts")
    check = check_prompts(requests, inner, tokenizer, bos_of(inner), stage.update)
    check_room(requests, inner, check.longest)
    warning = "[bold red]warning[/] "
    if not check.passed:
        say(
            screen.console,
            f"{check.compared - check.identical} of {check.compared} prompts differ from "
            "training's; the numbers below are not comparable with training. "
            f"{escape(check.first_difference or '')}",
            head=warning,
        )
    if any(int(number) > 1 for number in check.begins_with):
        say(screen.console, "some prompts begin with more than one BOS token", head=warning)
    return check


def show_result(result: Mapping[str, Any], console: Console) -> None:
    """Print the result of every task, and whatever speaks against trusting it."""
    for name, task in result["tasks"].items():
        top = main_metric(task)
        if top is None:
            continue
        if "maj_at_k" in task["metrics"]:
            _show_sampled(name.removesuffix(REPEATED), result, console)
            continue
        metric, value = top
        if "hits" in value:
            line = final_line(Share(value["hits"], value["n"]))
        else:
            line = f"Final {metric}: {value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
        if len(result["tasks"]) > 1:
            say(console, Text(f"{name}:", style="bold"))
        say(console, Text(line, style="bold"))
    check = result["batch_check"]
    if check and check["identical"] < check["items"]:
        say(
            console,
            f"asked alone instead of in batches, {check['items']} items gave "
            f"{check['items'] - check['identical']} other replies (rounding differs with the "
            "batch)",
            head="[yellow]note[/] ",
        )


def _show_sampled(task: str, result: Mapping[str, Any], console: Console) -> None:
    """The table of a result's sampled replies, greedy accuracy beside them where it was asked."""
    greedy = result["tasks"].get(task)
    top = main_metric(greedy) if greedy else None
    row = {
        "label": result["label"],
        "accuracy": top and top[1],
        "sampled": sampled_metrics(task, result),
    }
    show_sampled([row], {"temperature": 1.0, **result["subject"]}, console)


def quiet_harness() -> None:
    """Leave the screen to our own lines; `LMEVAL_LOG_LEVEL` brings lm-eval's back."""
    from lm_eval import evaluator

    logging.getLogger("lm_eval").setLevel(os.environ.get("LMEVAL_LOG_LEVEL", "ERROR"))
    # it asks git for a commit that we do not keep, and outside of a checkout git complains
    evaluator.get_git_commit_hash = lambda: None


def _check_place(out: Path) -> None:
    """Refuse a place that cannot be written to, before anything is asked."""
    if out.is_dir():
        raise UserError(f"--out: {out} is a folder; name a file in it, such as {out / 'eval.json'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: cannot make {out.parent} ({error.strerror})") from None


def _kept(journal: Journal, label: str) -> str:
    """What Ctrl-C says while a model is evaluated."""
    replies = journal.kept()
    if not replies:
        return f"{label} had finished no reply; the same command begins it again"
    return (
        f"{replies:,} replies of {label} are kept in {journal.path}; the same command asks "
        "for the rest"
    )


def _versions() -> dict[str, str]:
    return {name: found for name in PACKAGES if (found := installed_version(name))}
