"""Evaluate one model: lm-eval's `simple_evaluate` with the checks and records around it."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.api.instance import Instance
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from xmlgrpo_evaluator.harness.batching import check_batching
from xmlgrpo_evaluator.harness.engine_log import EngineLog
from xmlgrpo_evaluator.harness.journal import Journal
from xmlgrpo_evaluator.harness.open import (
    bos_of,
    opened,
    training_tokenizer,
)
from xmlgrpo_evaluator.harness.replies import CountedReply
from xmlgrpo_evaluator.harness.resumable import ResumableLM
from xmlgrpo_evaluator.results.identity import plain, read_result_of, subject_of
from xmlgrpo_evaluator.results.result import (
    RESULT_FORMAT,
    headline,
    items_of,
    metrics_of,
    read_result,
)
from xmlgrpo_evaluator.screen.live import Live, Stages, final_line
from xmlgrpo_evaluator.screen.memory import PeakMemory
from xmlgrpo_evaluator.screen.speed import Speed
from xmlgrpo_evaluator.setup.items import record
from xmlgrpo_evaluator.setup.models import Model
from xmlgrpo_evaluator.setup.prompts import PromptCheck, check_prompts, check_room
from xmlgrpo_evaluator.setup.settings import Settings
from xmlgrpo_evaluator.setup.tasks import FoundTasks, find_tasks
from xmlgrpo_rewards.errors import UserError, kept_on_interrupt
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_run.files import write_json
from xmlgrpo_run.screen.say import say

PACKAGES = ("lm-eval", "transformers", "peft", "torch", "triton", "llama-cpp-python", "vllm")


def evaluate(
    model: Model, settings: Settings, out: Path, console: Console, *, quiet: bool = False
) -> dict[str, Any]:
    """Evaluate a model and write the result.

    Replies are kept in `<out>.replies.jsonl` as they come; the same call after an interruption
    asks only for the rest, and after the end reads the finished result.

    Args:
        model: what is evaluated.
        settings: how.
        out: the result file.
        console: where progress is shown.
        quiet: show no line an item.

    Raises:
        UserError: anything the user can mend, most of it before the first item is asked.
    """
    _check_place(out)
    with ExitStack() as stack:
        stages = stack.enter_context(Stages(console))
        stages.begin(f"{model.label}: finding task and items")
        # first: a wrong name costs no loading
        found = stack.enter_context(find_tasks(model, settings))
        stages.begin(f"{model.label}: reading what its files are")
        subject = subject_of(model, settings, found.data_digest)
        stages.end()
        if out.exists():
            result = read_result_of(out, subject)
            say(console, escape(f"{result['label']}: already evaluated, read from {out}"))
        else:
            result = _evaluate(
                model,
                settings,
                found,
                subject=subject,
                out=out,
                console=console,
                stages=stages,
                quiet=quiet,
            )
    tell(result, console)
    return result


def _evaluate(
    model: Model,
    settings: Settings,
    found: FoundTasks,
    *,
    subject: Mapping[str, Any],
    out: Path,
    console: Console,
    stages: Stages,
    quiet: bool,
) -> dict[str, Any]:
    say(console, f"[bold]{escape(model.label)}[/]: {escape(_what(model))}")
    checked: list[PromptCheck] = []
    clock = Speed()
    stages.begin(f"{model.label}: reading the items")
    tasks = found.load()
    with (
        Journal(journal_path(out), subject) as journal,
        PeakMemory() as memory,
        kept_on_interrupt(lambda: _kept(journal, model.label)),
        ExitStack() as stack,
    ):
        engines = EngineLog(settings.engine, journal, console)
        if journal.resumed:
            say(console, f"{journal.resumed:,} replies of an earlier start are kept")
        asking = replace(settings, engine=engines.engine)
        stages.begin(f"{model.label}: loading the model")
        inner = stack.enter_context(opened(model, asking, engines.heard))
        live = Live(
            stages,
            console,
            model.label,
            quiet=quiet,
            unreported=lambda: getattr(inner, "unreported", 0),
        )
        stages.begin(f"{model.label}: making the prompts")

        def before(requests: Sequence[Instance]) -> None:
            stages.begin(f"{model.label}: loading training's tokenizer")
            tokenizer = _comparable(model, settings)
            shown = stages.begin(
                f"{model.label}: checking the prompts", total=len(requests), unit="prompts"
            )
            check = check_prompts(requests, inner, tokenizer, bos_of(inner), shown.update)
            check_room(requests, inner, check)
            checked.append(check)
            _tell_prompts(check, console)
            live.begin(requests)
            clock.start()

        def on_reply(request: Instance, reply: CountedReply, *, new: bool) -> None:
            clock.count(reply.tokens if new else 0)
            live(request, reply, new=new)

        front = ResumableLM(
            inner,
            journal,
            seed=settings.seed,
            seeds_requests=model.backend in ("llama-cpp", "vllm"),
            before=before,
            on_reply=on_reply,
            before_scoring=live.begin,
            on_score=live.scored,
        )
        results = _simple_evaluate(front, found.manager, tasks, settings)
        clock.stop()
        samples = results.pop("samples")
        alone = settings.check_batch if settings.k == 1 else 0
        batch_size = engines.at_once or getattr(inner, "batch_size", settings.batch_size)
        again = stages.begin(f"{model.label}: asking a few again, alone", total=alone, unit="items")
        asked = count(1)
        batch_check = check_batching(inner, samples, alone, lambda: again.update(next(asked)))
        stages.end()
        info = dict(inner.get_model_info()) if hasattr(inner, "get_model_info") else {}
        resumed = journal.resumed
    counts = results["n-samples"]
    data = {name: record(one, counts[name]["original"]) for name, one in found.data.items()}
    result = {
        "format": RESULT_FORMAT,
        "label": model.label,
        "backend": model.backend,
        "subject": subject,
        "batch_size": batch_size,
        "engines": engines.record() if model.backend == "hf" else None,
        "model": {"size_bytes": model.size_bytes(), **info},
        "data": next(iter(data.values())) if len(data) == 1 else None,
        "tasks": {
            name: {"data": data.get(name), "metrics": metrics_of(items), "items": items}
            for name, items in ((name, items_of(rows)) for name, rows in samples.items())
        },
        "prompts": asdict(checked[0]) | {"passed": checked[0].passed} if checked else None,
        "batch_check": batch_check,
        "speed": {**clock.report(), "resumed_replies": resumed, "peak_mib": memory.peak_mib},
        "lm_eval": {key: results[key] for key in ("results", "configs", "versions", "n-samples")},
        "format_version": FORMAT_VERSION,
        "versions": _versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(out, plain(result))
    return read_result(out)


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
    if not len(journal):
        return f"{label} had finished no reply; the same command begins it again"
    return (
        f"{len(journal):,} replies of {label} are kept in {journal.path}; the same command asks "
        "for the rest"
    )


def journal_path(out: Path) -> Path:
    """Where the replies of a result are kept while they come."""
    return out.with_name(f"{out.stem}.replies.jsonl")


def tell(result: Mapping[str, Any], console: Console) -> None:
    """Print the result of every task, and whatever speaks against trusting it."""
    for name, task in result["tasks"].items():
        top = headline(task)
        if top is None:
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


def _simple_evaluate(
    front: ResumableLM, manager: Any, tasks: list[Any], settings: Settings
) -> dict[str, Any]:
    options = dict(settings.harness)
    generation = {"max_gen_toks": settings.max_new_tokens, **options.pop("gen_kwargs", {})}
    try:
        results = lm_eval.simple_evaluate(
            model=front,
            tasks=tasks,
            task_manager=manager,
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


def _comparable(model: Model, settings: Settings) -> Any | None:
    """The training tokenizer, unless the prompts are meant to be other ones."""
    shots = settings.harness.get("num_fewshot")
    if shots or not settings.chat_template or settings.harness.get("system_instruction"):
        return None
    return training_tokenizer(model)


def _tell_prompts(check: PromptCheck, console: Console) -> None:
    head = "[bold red]warning[/] "
    if not check.passed:
        say(
            console,
            f"{check.compared - check.identical} of {check.compared} prompts differ from "
            "training's; the numbers below are not comparable with training. "
            f"{escape(check.first_difference or '')}",
            head=head,
        )
    if any(int(count) > 1 for count in check.begins_with):
        say(console, "some prompts begin with more than one BOS token", head=head)


def _what(model: Model) -> str:
    adapter = f" with adapter {model.adapter}" if model.adapter else ""
    return f"{model.source}{adapter}, run by {model.backend}"


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
