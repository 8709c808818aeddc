"""The training itself: baseline, then GRPO with its callbacks; resumed where it stopped."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

from rich.markup import escape
from transformers import set_seed

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import printable
from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_rollout.choice import EngineChoice, choose_engine
from xmlgrpo_rollout.engine import Sampling
from xmlgrpo_rollout.stop_tokens import stop_ids
from xmlgrpo_run.measures.holdout import HoldoutResult, read_result, save_result
from xmlgrpo_run.screen.metric_names import words_of
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say
from xmlgrpo_trainer.config.run_config import completion_limit, holdout_limit
from xmlgrpo_trainer.grpo.draws import DrawnBatches, make_draws
from xmlgrpo_trainer.grpo.fast_step.speed_up import use_frozen_norms
from xmlgrpo_trainer.grpo.late_numbers import fetch_once
from xmlgrpo_trainer.grpo.lost_batches import LostBatchesError
from xmlgrpo_trainer.grpo.mismatch import correct_mismatch
from xmlgrpo_trainer.grpo.packed_step.merged_pass import MergedPass, Merging
from xmlgrpo_trainer.grpo.packed_step.step import (
    leave_out_rows_without_advantage,
    use_packed_rows,
)
from xmlgrpo_trainer.grpo.rewards import RewardError, Scored, trl_rewards
from xmlgrpo_trainer.grpo.trainer import (
    build_trainer,
    rollout_function,
    rollout_sampling,
    steps_between_generations,
    training_rows,
)
from xmlgrpo_trainer.grpo.vllm import check_prompt, serve_vllm
from xmlgrpo_trainer.model.reference import check_head, check_start, probe
from xmlgrpo_trainer.prepare import Prepared, Trained
from xmlgrpo_trainer.problems.exam import Exam, save_items, take
from xmlgrpo_trainer.problems.keep_best import KeepBest, check_best, stopped_early
from xmlgrpo_trainer.reporting.steps import NotFiniteError, Watch
from xmlgrpo_trainer.reporting.trackers import Trackers
from xmlgrpo_trainer.resume.checkpoints import (
    checkpoint_of,
    find_checkpoints,
    is_last,
    remove_unfinished,
    seal_when_saved,
    set_aside,
    step_of,
    take_over,
)
from xmlgrpo_trainer.resume.failures import check_room
from xmlgrpo_trainer.resume.record import resolved_fields, versions, write_record
from xmlgrpo_trainer.resume.stopping import StepStart, StopAndSave

FAULTS_SHOWN = 5  # of the rows that were left out for their gold


def fit(run: Prepared) -> Trained:
    """Train to the end, or until a signal.

    Raises:
        UserError: the run would not begin at the base, a reward function failed, a value is not
            finite, batches were lost.
    """
    config, folder, policy, ranks = run.config, run.folder, run.policy, run.ranks
    batch: list[Scored] = []
    sampling = rollout_sampling(run.arguments, completion_limit(config))
    stops = stop_ids(policy.model, policy.tokenizer)
    with Stage(run.console, "making the trainer"):
        trainer = ranks.together(lambda: _make_trainer(run, batch))
        choice = ranks.together(
            lambda: choose_engine(
                *(config.rollout, trainer.model, policy.tokenizer, stops),
                int8=config.rollout_weights == "int8",
            )
        )
    if choice.trains:
        group = run.arguments.num_generations
        trainer.rollout_func = rollout_function(choice.drawing, policy.tokenizer, sampling, group)
    else:
        asked = run.task.messages(run.problems.train[0].question)
        ranks.together(lambda: check_prompt(policy.tokenizer, asked))
        serve_vllm(trainer, stops)
    if config.packed_rows:
        ranks.together(lambda: _pack_rows(trainer, choice, merged=config.merged_pass))
    if config.frozen_norms:
        ranks.together(lambda: use_frozen_norms(trainer))
    if config.fetch_once:
        fetch_once(trainer)
    if choice.rounds:
        is_trls_own = policy.placement.backend == "plain"
        correct_mismatch(trainer, choice.drawing, is_trls_own=is_trls_own)
    if config.packed_rows:
        leave_out_rows_without_advantage(trainer)
    draws = _draw_by_rates(run, trainer, batch)
    exam = Exam(
        engine=choice.engine,
        tokenizer=policy.tokenizer,
        task=run.task,
        sampling=Sampling(holdout_limit(config), temperature=0.0),
        stops=stops,
        batch_size=config.holdout.batch_size * ranks.count,
        console=run.console,
        ranks=ranks,
    )
    trained_weights = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    ranks.on_first(lambda: check_room(folder.root, run.arguments, trained_weights))
    _introduce(run, f"{choice.name} ({choice.reason})", trained_weights)

    base = Path(run.base).expanduser()
    base_folder = base if base.is_dir() else None
    commit = policy.commit(run.base, config.model.revision)
    identity = {
        "problems": run.problems.sha256(),
        "version of the reply form": str(FORMAT_VERSION),
        "base model": base.name if base_folder else run.base,
        **({"base model's commit": commit} if commit else {}),
        "backend": policy.placement.backend,
        "rollout": choice.name,
        "dtype": policy.placement.dtype,
        "processes": str(ranks.count),
        **versions(),
    }
    resolved = resolved_fields(run.arguments, trainer.model, ranks.count)
    ranks.on_first(lambda: write_record(folder, config, identity, resolved, base_folder))
    ranks.on_first(lambda: save_items(folder.holdout_items, run.task, run.problems.report))
    before = _baseline(run, exam)
    stopped_by = _train(run, trainer, batch, exam, draws)
    return Trained(trainer, exam, before, choice.drew, stopped_by)


def _pack_rows(trainer: Any, choice: EngineChoice, *, merged: bool) -> None:
    if not merged:
        use_packed_rows(trainer)
        return
    if choice.name != "graph":
        raise UserError(
            f"merged_pass: expected rollout graph, whose weights it computes with, got "
            f"{choice.name} ({choice.reason}); set merged_pass to false"
        )
    draws = choice.drawing is choice.engine
    use_packed_rows(trainer, MergedPass(trainer, cast("Merging", choice.engine), draws=draws))


def _make_trainer(run: Prepared, batch: list[Scored]) -> Any:
    policy = run.policy
    with nullcontext() if policy.peft_config else policy.model.disable_adapter():
        base = probe(policy.model, policy.tokenizer)
    set_seed(run.config.seed)  # the adapter's random start comes before trl sets the seed
    trainer = build_trainer(
        policy=policy,
        arguments=run.arguments,
        rows=training_rows(run.task, run.problems.train),
        rewards=trl_rewards(run.rewards, batch, run.ranks),
    )
    check_start(trainer.model, base, run.arguments.beta)
    if policy.placement.backend == "plain" and getattr(trainer, "use_liger_kernel", True):
        check_head(trainer.model, base)
    return trainer


def _draw_by_rates(run: Prepared, trainer: Any, batch: list[Scored]) -> DrawnBatches | None:
    """Draw problems by their pass rates, where the configuration says so; several ranks do not."""
    if run.ranks.count > 1:  # a group may be shared by two of them
        return None
    settings, problems = run.config.sampling, run.problems.train
    draws = make_draws(settings, problems, run.config.seed) if settings.is_used else None
    return DrawnBatches(trainer, draws, batch, run.task)


def _introduce(run: Prepared, rollout: str, trained_weights: int) -> None:
    """Say what is about to be trained, on what, how."""
    model, placement, problems = run.policy.model, run.policy.placement, run.problems
    arguments, count = run.arguments, run.ranks.count
    weights = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    group = arguments.num_generations
    lines = {
        "model": f"{_short(run.base)} ({weights:,} weights, {placement.dtype}, {placement.device})",
        "adapter": f"LoRA, {trained_weights:,} trained weights",
        "backend": f"{placement.backend} ({placement.reason})",
    }
    if count > 1:
        micro, rounds = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps
        lines["processes"] = (
            f"{count} share the configuration's batch: {micro} completions x {rounds} backward "
            f"pass{'es' if rounds > 1 else ''} a step each"
        )
    lines |= {
        "rollout": rollout,
        "problems": f"{len(problems.train):,} to train on, {len(problems.validation)} validation, "
        f"{len(problems.report)} held out ({problems.source}; left out: {problems.dropped_long} "
        f"over-long, {problems.repeated} repeated, {len(problems.faulty)} faulty)",
        "each step": f"{arguments.generation_batch_size // group} prompts x {group} completions of "
        f"at most {arguments.max_completion_length} tokens",
        "rewards": ", ".join(f"{r.name} x {r.weight:g}" for r in run.rewards),
        "run folder": _short(str(run.folder.root)),
    }
    for name, text in lines.items():
        say(run.console, escape(text), head=f"[bold]{name:10}[/] ")
    for fault in problems.faulty[:FAULTS_SHOWN]:
        say(run.console, escape(printable(fault)), head="[yellow]left out[/] ")
    if len(problems.faulty) > FAULTS_SHOWN:
        asked = f"make validate TASK={run.task.name} DATA=... ARGS=--all"
        listed = f"{asked} lists all {len(problems.faulty):,}"
        say(run.console, escape(listed), head="[yellow]left out[/] ")


def _short(place: str) -> str:
    """A path as short as it can be written from here; anything else as it is."""
    path = Path(place)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else place


def _baseline(run: Prepared, exam: Exam) -> HoldoutResult:
    """The report problems before training; read back when a resumed run has them already."""
    path, ranks = run.folder.holdout_before, run.ranks
    earlier = ranks.on_first(lambda: read_result(path) if path.is_file() else None)
    if earlier is not None:
        return earlier
    problems = run.problems.report
    before = take(exam, "baseline", problems, 0)
    ranks.on_first(lambda: save_result(path, before))
    say(
        run.console,
        f"[bold magenta]baseline[/] on {len(problems)} held-out problems, greedy: "
        f"strict {before.share('strict_accuracy')}  lenient {before.share('lenient_accuracy')}  "
        f"format {before.share('strict_format').value:.1%}"
        + (
            f"  worked {before.share('worked').value:.1%}" if words_of(run.task.name).worked else ""
        ),
    )
    return before


def _train(
    run: Prepared, trainer: Any, batch: list[Scored], exam: Exam, draws: DrawnBatches | None
) -> int | None:
    """Run trl's loop with our callbacks; the signal that stopped it, None at its end."""
    config, ranks = run.config, run.ranks
    trackers = Trackers(config, run.folder, trainer.callback_handler.callbacks)
    keeper = KeepBest(exam, run.problems.validation, run.folder, config.holdout, log=trackers.log)
    stopper = StopAndSave(steps_between_generations(run.arguments), ranks)
    step_start = StepStart()
    watch = Watch(
        run.folder, run.task, batch, config.watch, run.console, ranks=ranks, trackers=trackers
    )
    drawn = [] if draws is None else [draws]
    for callback in (step_start, watch, keeper, *drawn, seal_when_saved(ranks), stopper):
        trainer.add_callback(callback)
    try:
        _loop(run, trainer, step_start, draws)
    finally:
        stopper.release()
        watch.stage.stop()
    return stopper.received


def _loop(run: Prepared, trainer: Any, step_start: StepStart, draws: DrawnBatches | None) -> None:
    """Go on from the newest checkpoint; a failure saves the last finished step first."""
    console, ranks = run.console, run.ranks
    newest, damaged = ranks.on_first(lambda: find_checkpoints(run.folder.checkpoints))
    unfinished = ranks.on_first(lambda: remove_unfinished(run.folder.checkpoints, newest))
    for path, wrong in damaged.items():
        what = "it is removed"
        if path not in unfinished:
            what = f"it is {ranks.on_first(partial(set_aside, path)).name} now"
        say(console, f"[yellow]{escape(wrong)}[/]: {escape(what)}")
    if damaged and newest is None:
        say(console, "no checkpoint is left to continue from: the training begins again")
    step = 0 if newest is None else step_of(newest)
    ranks.on_first(lambda: check_best(run.folder, step))
    if newest is not None:
        say(console, f"continuing from {newest.name}")
        if is_last(newest) or stopped_early(run.folder, step):
            take_over(newest, trainer)  # trl's loop would train one step more
            return
        if draws is not None:
            draws.go_on(newest)
    try:
        with objects_set_aside():
            trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    except RewardError as error:
        step_start.restore(trainer.state)
        saved = _save_now(run, trainer)
        advice = "correct the function and run the same command again to continue"
        raise ranks.everywhere(UserError(f"{error}. {saved}: {advice}")) from error
    except LostBatchesError as error:
        raise ranks.everywhere(UserError(f"{error}. {_save_now(run, trainer)}")) from None
    except NotFiniteError as error:
        raise ranks.everywhere(error) from None


@contextmanager
def objects_set_aside() -> Iterator[None]:
    """Keep the objects that are there out of Python's collections until the end.

    The libraries have made hundreds of thousands, and a look at all of them stops a step.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _save_now(run: Prepared, trainer: Any) -> str:
    """Save the last finished step, unless it is saved; what was saved, in words."""
    step, checkpoints = trainer.state.global_step, run.folder.checkpoints
    if step == 0:
        return "No step was finished yet, so there is nothing to save"
    newest = run.ranks.on_first(lambda: find_checkpoints(checkpoints).newest)
    if newest != checkpoint_of(checkpoints, step):
        # trl offers no public call for "save a checkpoint of this step now"
        trainer._save_checkpoint(trainer.model_wrapped, trial=None)  # noqa: SLF001
        trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
    return f"Step {step} is saved"
