"""One training run from configuration to manifest, on one process or as one of several.

Every stage leaves its result in the run folder, and a second call continues after the last one
that is there: `prepare` -> `fit` -> `finish`.
"""

import signal
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from xmlgrpo_rewards.console_script import interruption_code, kept_on_interrupt
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest
from xmlgrpo_run.screen.say import say
from xmlgrpo_trainer.config.run_config import RunConfig
from xmlgrpo_trainer.prepare import prepare, refuse_early
from xmlgrpo_trainer.ranks.processes import EndedElsewhere, Ranks, joined, ranks_here
from xmlgrpo_trainer.resume.checkpoints import find_checkpoints, step_of
from xmlgrpo_trainer.resume.failures import failures_in_words
from xmlgrpo_trainer.resume.opening import open_run

EXIT_LOST = 3
PATIENCE_S = 1800  # how long a rank waits for another; trl's own default for `grpo.ddp_timeout`


def train(config: RunConfig, root: Path, console: Console) -> int:
    """Train, or continue, or show the result of the run at `root`.

    Returns:
        The process's exit code: 0 when the run is finished, 3 when the doctor stopped it as lost
        (`watch.stop_when`), 128 + the signal when it was stopped.
        Of several processes only the first one's says so.

    Raises:
        UserError: anything that the user can correct.
    """
    patience_s = config.grpo.get("ddp_timeout")
    timeout_s = float(patience_s) if type(patience_s) is int else PATIENCE_S
    try:
        with joined(config.model.device, timeout_s) as ranks:
            if not ranks.is_first:
                console.quiet = True
            code = _train(config, RunFolder(root), console, ranks)
    except EndedElsewhere:
        return 0
    except KeyboardInterrupt as stopped:
        if ranks_here().is_first:
            raise
        raise SystemExit(interruption_code(stopped)) from None  # the first process says it
    return code if ranks.is_first else 0


def _train(config: RunConfig, folder: RunFolder, console: Console, ranks: Ranks) -> int:
    ranks.together(lambda: refuse_early(config, ranks.count))
    with ExitStack() as held:
        state = ranks.on_first(lambda: held.enter_context(open_run(folder, config)))
        if state == "finished":
            if ranks.is_first:
                from xmlgrpo_trainer.reporting.result import show_end

                console.print(
                    f"{escape(str(folder.root))} is finished; nothing to train.", highlight=False
                )
                show_end(console, read_manifest(folder), folder)
            return ranks.on_first(lambda: _code_of(folder, console))
        held.enter_context(kept_on_interrupt(lambda: what_is_kept(folder)))
        run = prepare(config, folder, console, ranks)
        from xmlgrpo_trainer.finish import finish
        from xmlgrpo_trainer.fit import fit

        with failures_in_words(folder.root):
            trained = fit(run)
            if trained.stopped_by is None:
                finish(run, trained)
                return ranks.on_first(lambda: _code_of(folder, console))
        state = trained.trainer.state
        say(
            console,
            f"[yellow]{signal.Signals(trained.stopped_by).name}[/]: saved at step "
            f"{state.global_step} of {state.max_steps}. Run the same command again to continue.",
        )
        return 128 + trained.stopped_by


def _code_of(folder: RunFolder, console: Console) -> int:
    """The exit code of a finished run, with a sentence where the doctor ended it."""
    from xmlgrpo_trainer.problems.keep_best import why_lost  # which imports transformers

    manifest = read_manifest(folder)
    why = why_lost(folder, manifest.steps)
    if why is None:
        return 0
    kept = f"the adapter of step {manifest.best_step}, the best validation's, is kept"
    if manifest.best_step == manifest.steps:
        kept = "no validation was better before it, so its own adapter is kept"
    say(console, escape(f"{why}; {kept}"), head="[bold red]lost[/]: ")
    return EXIT_LOST


def what_is_kept(folder: RunFolder) -> str:
    """What a run that was stopped leaves, and how it goes on, in words."""
    again = "run the same command again to continue"
    newest = find_checkpoints(folder.checkpoints).newest
    if newest is not None:
        return f"the training is kept up to step {step_of(newest):,}; {again}"
    if folder.holdout_before.is_file():
        return f"no step is kept yet, but the baseline is; {again}"
    return "no step was trained yet, so nothing is lost; run the same command again to begin"
