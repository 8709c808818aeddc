"""One training run from configuration to manifest, on one process or as one of several.

Every stage leaves its result in the run folder, and a second call continues after the last one
that is there: `prepare` -> `fit` -> `finish`.
"""

from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from xmlgrpo_rewards.errors import interruption_code, kept_on_interrupt
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_trainer.config.batch import check_alone
from xmlgrpo_trainer.config.run_config import RunConfig
from xmlgrpo_trainer.prepare import prepare
from xmlgrpo_trainer.ranks.processes import EndedElsewhere, Ranks, joined, ranks_here
from xmlgrpo_trainer.run import folder as run_dir
from xmlgrpo_trainer.run.sealed import last_good, step_of

NOTHING_YET = "no step was trained yet, so nothing is lost; run the same command again to begin"
PATIENCE_S = 1800  # how long a rank waits for another; trl's own default for `grpo.ddp_timeout`


def train(config: RunConfig, root: Path, console: Console) -> int:
    """Train, or continue, or show the result of the run at `root`.

    Returns:
        The process's exit code: 0 when the run is finished, 128 + the signal when it was stopped.
        Of several processes only the first one's says so.

    Raises:
        UserError: anything that the user can mend.
    """
    patience_s = config.grpo.get("ddp_timeout")
    timeout_s = float(patience_s) if type(patience_s) is int else PATIENCE_S
    try:
        with joined(config.model.device, timeout_s) as ranks:
            if not ranks.is_first:
                console.quiet = True
            code = _train(config, root, console, ranks)
    except EndedElsewhere:
        return 0
    except KeyboardInterrupt as stopped:
        if ranks_here().is_first:
            raise
        raise SystemExit(interruption_code(stopped)) from None  # the first process says it
    return code if ranks.is_first else 0


def _train(config: RunConfig, root: Path, console: Console, ranks: Ranks) -> int:
    ranks.together(lambda: check_alone(config, ranks.count))
    with ExitStack() as held:
        run = ranks.on_first(lambda: held.enter_context(run_dir.open_run(root, config)))
        if run.state == "finished":
            if ranks.is_first:
                from xmlgrpo_trainer.screen.last_lines import show_end

                console.print(
                    f"{escape(str(root))} is finished; nothing to train.", highlight=False
                )
                show_end(console, run.folder.read_manifest(), run.folder)
            return 0
        held.enter_context(kept_on_interrupt(lambda: what_is_kept(run.folder)))
        prepared = prepare(config, run.folder, console, ranks)
        from xmlgrpo_trainer.fit import fit

        return fit(prepared, console)


def what_is_kept(folder: RunFolder) -> str:
    """What a run that was stopped leaves, and how it goes on, in words."""
    again = "run the same command again to continue"
    newest = last_good(folder.checkpoints)
    if newest is not None:
        return f"the training is kept up to step {step_of(newest):,}; {again}"
    if (folder.holdout / run_dir.BEFORE).is_file():
        return f"no step is kept yet, but the baseline is; {again}"
    return NOTHING_YET
