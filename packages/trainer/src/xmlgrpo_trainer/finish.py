"""What a finished run leaves: the best adapter, the result after, curves, and last the manifest."""

from pathlib import Path

from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_run.checkout import code_of
from xmlgrpo_run.digests import model_digest
from xmlgrpo_run.manifest import (
    Base,
    Data,
    HeldOut,
    Manifest,
    Place,
    files_of_base,
    files_of_run,
    write_manifest,
)
from xmlgrpo_run.measures.holdout import save_result
from xmlgrpo_run.metrics import read_log
from xmlgrpo_run.screen.metric_names import words_of
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_trainer.config.run_config import TINY, completion_limit, config_sha256, holdout_limit
from xmlgrpo_trainer.prepare import Prepared, Trained
from xmlgrpo_trainer.problems.exam import take
from xmlgrpo_trainer.problems.keep_best import load_best, save_adapter
from xmlgrpo_trainer.reporting.result import draw_curves, show_end
from xmlgrpo_trainer.resume.record import hardware, now, versions


def finish(run: Prepared, trained: Trained) -> None:
    """Write what a finished run consists of, the manifest last, and print the result."""
    folder, ranks, console = run.folder, run.ranks, run.console
    trainer, before = trained.trainer, trained.before
    steps = trainer.state.global_step
    best = load_best(folder, trainer.model)
    kept = steps if best is None else best
    ranks.on_first(lambda: save_adapter(trainer.model, folder.adapter, run.policy.tokenizer))
    after = take(trained.exam, "final exam", run.problems.report, kept)
    if not ranks.is_first:
        return
    save_result(folder.holdout_after, after)
    rows = list(read_log(folder.metrics).rows.values())
    title = f"{folder.name}: GRPO on {run.task.name}, {steps} steps"
    with Stage(console, "drawing the curves"):
        draw_curves(rows, folder.curves, title, words_of(run.task.name))
    holdout = HeldOut(len(after.items), before.metrics(), after.metrics())
    seconds = sum(row.get("step_time") or 0.0 for row in rows)
    manifest = _manifest(run, trained, kept=kept, seconds=seconds, holdout=holdout)
    write_manifest(folder, manifest)
    show_end(console, manifest, folder, (before, after))


def _manifest(
    run: Prepared, trained: Trained, *, kept: int, seconds: float, holdout: HeldOut
) -> Manifest:
    """What the result depends on, and what later stages need to know."""
    config, folder, problems = run.config, run.folder, run.problems
    placement, code = run.policy.placement, code_of()
    base, rows = Path(run.base), config.data.path
    on_the_hub = config.data.source == "hub"
    return Manifest(
        run=folder.name,
        finished=now(),
        task=run.task.name,
        format_version=FORMAT_VERSION,
        base=Base(
            name=run.base,
            revision=run.policy.commit(run.base, config.model.revision) or config.model.revision,
            place=Place.of(base, folder) if base.is_dir() else None,
            dtype=placement.dtype,
            quantized_4bit=config.model.load_in_4bit,
            model_class=type(trained.trainer.model.get_base_model()).__name__,
            tiny=config.model.name == TINY,
            files=files_of_base(base) if base.is_dir() else {},
        ),
        adapter=model_digest(folder.adapter) or "",
        backend=placement.backend,
        rollout=trained.rollout,
        seed=config.seed,
        steps=trained.trainer.state.global_step,
        best_step=kept,
        seconds=round(seconds, 1),
        max_prompt_tokens=config.data.max_prompt_tokens,
        max_completion_tokens=completion_limit(config),
        max_reply_tokens=holdout_limit(config),
        data=Data(
            source=config.data.source,
            name=problems.source,
            revision=config.data.revision or run.task.dataset_revision if on_the_hub else None,
            place=Place.of(Path(rows), folder) if rows else None,
            sha256=problems.sha256(),
            train_rows=len(problems.train),
            validation_rows=len(problems.validation),
            holdout_rows=len(problems.report),
            dropped_long=problems.dropped_long,
            repeated=problems.repeated,
            faulty=len(problems.faulty),
        ),
        rewards=dict(config.rewards),
        config=config.model_dump(mode="json"),
        config_sha256=config_sha256(config),
        commit=code.commit,
        dirty=code.dirty,
        versions=versions(),
        hardware={**hardware(placement.device), "processes": run.ranks.count},
        holdout=holdout,
        files=files_of_run(folder),
    )
