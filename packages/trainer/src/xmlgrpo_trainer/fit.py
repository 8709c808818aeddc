"""The training itself: baseline, GRPO with its callbacks, the end; resumed where it stopped."""

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import set_seed

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.choice import choose_engine
from xmlgrpo_rollout.sampling import Sampling
from xmlgrpo_run.metric_names import words_of
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say
from xmlgrpo_trainer.config.defaults import completion_limit
from xmlgrpo_trainer.config.resolved import hold_resolved
from xmlgrpo_trainer.finish import finish
from xmlgrpo_trainer.grpo.lost_batches import LostBatchesError
from xmlgrpo_trainer.grpo.mismatch import correct_mismatch
from xmlgrpo_trainer.grpo.rewards import RewardError, ScoredBatch, trl_rewards
from xmlgrpo_trainer.grpo.trainer import (
    build_trainer,
    rollout_function,
    rollout_sampling,
    steps_between_generations,
    training_rows,
)
from xmlgrpo_trainer.grpo.vllm import serve_vllm
from xmlgrpo_trainer.prepare import Prepared
from xmlgrpo_trainer.problems.exam import (
    Exam,
    HoldoutResult,
    read_result,
    save_items,
    save_result,
    take_shown,
)
from xmlgrpo_trainer.problems.keep_best import KeepBest, stopped_early
from xmlgrpo_trainer.problems.prompts import stop_ids
from xmlgrpo_trainer.ranks.processes import Ranks
from xmlgrpo_trainer.ranks.shared_engine import SharedEngine
from xmlgrpo_trainer.run import folder as run_dir
from xmlgrpo_trainer.run.checkpoint import (
    SealCheckpoints,
    StepStart,
    StopAndSave,
    is_last,
    take_over,
)
from xmlgrpo_trainer.run.disk import check_room
from xmlgrpo_trainer.run.failures import failures_in_words
from xmlgrpo_trainer.run.folder import hold_identity, write_config
from xmlgrpo_trainer.run.sealed import find_checkpoints, last_good
from xmlgrpo_trainer.screen.introduction import introduce
from xmlgrpo_trainer.screen.watch import NotFiniteError, Watch


def fit(run: Prepared, console: Console) -> int:
    """Train to the end, or until a signal; then write what belongs to a finished run.

    Returns:
        0 when the run is finished, 128 + the signal's number when it was stopped and can go on.

    Raises:
        UserError: a reward function failed, a value is not finite, memory or disk ran out.
    """
    with failures_in_words(run.folder.root):
        return _fit(run, console)


def _fit(run: Prepared, console: Console) -> int:
    config, folder, policy, ranks = run.config, run.folder, run.policy, run.ranks
    arguments = run.arguments
    batch = ScoredBatch()
    sampling = rollout_sampling(arguments, completion_limit(config))
    stops = stop_ids(policy.model, policy.tokenizer)
    with Stage(console, "making the trainer"):
        trainer = ranks.together(lambda: _build_trainer(run, batch))
        choice = ranks.together(
            lambda: choose_engine(config.rollout, trainer.model, policy.tokenizer, stops)
        )
    if choice.trains:
        trainer.rollout_func = rollout_function(choice.engine, policy.tokenizer, sampling)
    else:
        serve_vllm(trainer, stops)
    if choice.rounds:
        is_trls_own = policy.placement.backend == "plain"
        correct_mismatch(trainer, choice.engine, is_trls_own=is_trls_own)
    limit = config.holdout.max_new_tokens or sampling.max_new_tokens
    exam = Exam(
        engine=SharedEngine(choice.engine, ranks),
        tokenizer=policy.tokenizer,
        task=run.task,
        sampling=Sampling(max_new_tokens=limit, temperature=0.0),
        stops=stops,
        batch_size=config.holdout.batch_size * ranks.count,
    )
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    ranks.on_first(lambda: check_room(folder.root, arguments, trained))
    introduce(console, run, f"{choice.name} ({choice.reason})", trained)

    identity = {
        "problems": run.problems.sha256(),
        "base model": Path(run.base).name if Path(run.base).is_dir() else run.base,
        "backend": policy.placement.backend,
        "rollout": choice.name,
        "dtype": policy.placement.dtype,
        "processes": str(ranks.count),
        **run_dir.versions(),
    }
    ranks.on_first(lambda: write_config(folder, config))
    ranks.on_first(lambda: hold_identity(folder.root / "identity.json", identity))
    ranks.on_first(lambda: hold_resolved(folder.root, run.arguments, trainer.model, ranks.count))
    ranks.on_first(
        lambda: save_items(folder.holdout / "items.jsonl", run.task, run.problems.report)
    )
    before = _baseline(run, exam, console)
    validation = run.problems.validation

    def validate(step: int) -> HoldoutResult:
        return take_shown(console, "validation", exam, validation, step)

    keeper = KeepBest(
        validate if validation else None,
        folder,
        config.holdout,
        console,
        words=words_of(run.task.name),
        ranks=ranks,
    )
    stopper = StopAndSave(steps_between_generations(arguments), ranks)
    step_start = StepStart()
    watch = Watch(folder, run.task, batch, config.watch, console, ranks=ranks)
    for callback in (step_start, watch, keeper, SealCheckpoints(ranks), stopper):
        trainer.add_callback(callback)
    try:
        _train(trainer, run, step_start, stopper, console)
    finally:
        watch.stage.stop()
    if stopper.received is not None:
        say(
            console,
            f"[yellow]{signal.Signals(stopper.received).name}[/]: saved at step "
            f"{trainer.state.global_step} of {trainer.state.max_steps}. Run the same command again "
            "to continue.",
        )
        return 128 + stopper.received
    finish(run, trainer=trainer, exam=exam, before=before, rollout=choice.name, console=console)
    return 0


def _build_trainer(run: Prepared, batch: ScoredBatch) -> Any:
    set_seed(run.config.seed)  # the adapter's random start comes before trl sets the seed
    return build_trainer(
        policy=run.policy,
        arguments=run.arguments,
        rows=training_rows(run.task, run.problems.train),
        rewards=trl_rewards(run.rewards, batch, run.ranks),
    )


def _train(
    trainer: Any,
    run: Prepared,
    step_start: StepStart,
    stopper: StopAndSave,
    console: Console,
) -> None:
    """Run trl's loop; a failure saves the last finished step first and is told in one sentence."""
    found = run.ranks.on_first(lambda: find_checkpoints(run.folder.checkpoints))
    resumed = found.good
    for path in found.damaged:
        say(console, f"[yellow]{path.name} is damaged or was not written to its end[/]: left aside")
    if resumed is not None:
        say(console, f"continuing from {resumed.name}")
        if is_last(resumed) or stopped_early(run.folder):
            take_over(resumed, trainer)  # trl's loop would train one step more
            return
    try:
        with objects_set_aside():
            trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    except RewardError as error:
        step_start.restore(trainer.state)
        saved = _save_now(trainer, run.ranks)
        advice = "correct the function and run the same command again to continue"
        raise run.ranks.everywhere(UserError(f"{error}. {saved}: {advice}")) from error
    except LostBatchesError as error:
        saved = _save_now(trainer, run.ranks)
        raise run.ranks.everywhere(UserError(f"{error}. {saved}")) from None
    except NotFiniteError as error:
        raise run.ranks.everywhere(error) from None
    finally:
        stopper.release()


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


def _save_now(trainer: Any, ranks: Ranks) -> str:
    step = trainer.state.global_step
    target = Path(trainer.args.output_dir) / f"checkpoint-{step}"
    if step == 0:
        return "No step was finished yet, so there is nothing to save"
    if ranks.on_first(lambda: last_good(target.parent)) != target:
        # trl offers no public call for "save a checkpoint of this step now"
        trainer._save_checkpoint(trainer.model_wrapped, trial=None)  # noqa: SLF001
        trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
    return f"Step {step} is saved"


def _baseline(run: Prepared, exam: Exam, console: Console) -> HoldoutResult:
    """The report problems before training; read back when a resumed run has them already."""
    path, ranks = run.folder.holdout / run_dir.BEFORE, run.ranks
    earlier = ranks.on_first(lambda: read_result(path) if path.is_file() else None)
    if earlier is not None:
        return earlier
    problems = run.problems.report
    words = words_of(run.task.name)
    before = take_shown(console, "baseline", exam, problems, 0)
    ranks.on_first(lambda: save_result(path, before))
    say(
        console,
        f"[bold magenta]baseline[/] on {len(problems)} held-out problems, greedy: "
        f"strict {before.share('strict_correct')}  lenient {before.share('lenient_correct')}  "
        f"format {before.share('strict_format').value:.1%}"
        + (f"  worked {before.share('worked').value:.1%}" if words.worked else ""),
    )
    return before
