"""One training run from configuration to manifest, on one process or as one of several.

Every stage leaves its result in the run folder, and a second call continues after the last one
that is there: `prepare` -> `fit` -> `finish`.
"""

from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from xmlgrpo_trainer import run_dir
from xmlgrpo_trainer.config import RunConfig
from xmlgrpo_trainer.global_batch import check_alone
from xmlgrpo_trainer.prepare import prepare
from xmlgrpo_trainer.ranks import EndedElsewhere, Ranks, joined

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
    return code if ranks.is_first else 0


def _train(config: RunConfig, root: Path, console: Console, ranks: Ranks) -> int:
    ranks.together(lambda: check_alone(config, ranks.count))
    with ExitStack() as held:
        run = ranks.on_first(lambda: held.enter_context(run_dir.open_run(root, config)))
        if run.state == "finished":
            if ranks.is_first:
                from xmlgrpo_trainer.summary import show_end

                console.print(
                    f"{escape(str(root))} is finished; nothing to train.", highlight=False
                )
                show_end(console, run.folder.read_manifest(), run.folder)
            return 0
        prepared = prepare(config, run.folder, console, ranks)
        from xmlgrpo_trainer.fit import fit

        return fit(prepared, console)
