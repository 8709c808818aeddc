"""The embedded default's controls: what else could explain its gain?

    make demo-controls                  # python -m xmlgrpo_trainer.controls --seed 0

From the same warm start, on the same held-out problems:

- GRPO with all rewards: the default itself.
- GRPO with the format rewards only: if the format alone did it, lenient accuracy would rise.
- More supervised training on the warm start's last mixture: if more of the same did it, likewise.
- Supervised training on worked answers in the reply format: what one would do who has such
  answers.  It does better than GRPO for the same compute, since it goes on teaching arithmetic;
  GRPO needs the final numbers only.

The first two are there for every task with a tiny base (`--config configs/tiny-json.yaml`).
"""

import argparse
import dataclasses
import hashlib
import json
import random
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmlgrpo_gguf.threads import let_threads_sleep
from xmlgrpo_rewards.console_script import path_argument, run_command, seed_argument
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.total import CLASSIC
from xmlgrpo_run.files import read_json, replacing, write_json
from xmlgrpo_run.folder import run_folder
from xmlgrpo_run.manifest import read_manifest

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from xmlgrpo_trainer.config.run_config import HoldoutConfig, RunConfig
    from xmlgrpo_trainer.tiny.examples import Mixture
    from xmlgrpo_trainer.tiny.warm_start import OnProgress

SUPERVISED_STEPS = 500  # about the CPU time of the default's GRPO
LOWER_RATES = 0.5  # of the warm start's peaks: the model is trained already
SHOWN = ("strict_format", "strict_accuracy", "lenient_accuracy", "worked")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="demo-controls", description="Rerun the embedded default's controls."
    )
    made.add_argument("--config", type=path_argument, default=Path("configs/tiny.yaml"))
    made.add_argument("--seed", type=seed_argument, default=0)
    made.add_argument("--supervised-steps", type=int, default=SUPERVISED_STEPS)
    made.add_argument("overrides", nargs="*", metavar="key=value")
    return made


def main() -> None:
    """Entry point of `make demo-controls`."""
    run_command(run)


def run() -> int:
    """Parse the command line, run the controls, return the exit code."""
    arguments = parser().parse_args()

    from xmlgrpo_trainer.config.run_config import TINY, load_config

    config = load_config(arguments.config, [*arguments.overrides, f"seed={arguments.seed}"])
    if config.model.name != TINY or config.data.source != "generated":
        raise UserError(
            "the controls belong to a tiny model on generated problems: expected model.name 'tiny' "
            f"and data.source 'generated', got {config.model.name!r} and {config.data.source!r}"
        )
    if not 0 < len(form_rewards(config.rewards)) < len(config.rewards):
        raise UserError(
            "rewards: expected some that pay for the form, and some more for a control to leave "
            f"out, got {', '.join(config.rewards)}"
        )
    let_threads_sleep()
    from xmlgrpo_run.screen.console import make_console, quiet_libraries

    quiet_libraries()
    return compare(config, arguments.supervised_steps, make_console())


def form_rewards(rewards: Mapping[str, float]) -> dict[str, float]:
    """Those that pay without asking whether an answer is right."""
    blind = set(CLASSIC) - {"correctness_reward_func"}
    return {name: weight for name, weight in rewards.items() if name in blind}


def last_kept(holdout: "HoldoutConfig") -> "HoldoutConfig":
    """The same with the last adapter kept: no right answer may choose a control's."""
    return holdout.model_copy(update={"keep": "last"})


def compare(config: "RunConfig", supervised_steps: int, console: "Console") -> int:
    """Run the controls that are not there yet, and print all in one table.

    Returns:
        0, or the exit code of a GRPO run that was stopped.
    """
    from xmlgrpo_rewards.task import get_task
    from xmlgrpo_run.screen.metric_names import metric_names, words_of
    from xmlgrpo_trainer.tiny.task.rows import has_own_base
    from xmlgrpo_trainer.train import train

    rewards, task = config.rewards, get_task(config.task)
    about = f"controls-{task.name}" if has_own_base(task) else "controls"
    controls = {
        "all-rewards": ("GRPO, all rewards", rewards),
        "format-rewards": ("GRPO, format rewards only", form_rewards(rewards)),
    }
    results: dict[str, Mapping[str, Any]] = {}
    for short, (name, paid) in controls.items():
        console.rule(name)
        run = run_folder(f"{about}-{config.seed}-{short}")
        holdout = config.holdout if paid == rewards else last_kept(config.holdout)
        asked = config.model_copy(update={"rewards": paid, "holdout": holdout})
        if code := train(asked, run.root, console):
            return code
        manifest = read_manifest(run)
        results |= {"warm start": manifest.holdout.before, name: manifest.holdout.after}
    if has_own_base(task):
        named = metric_names(words_of(task.name))
        console.print(table(results, [name for name in SHOWN if name in named]))
        return 0
    base = Path(manifest.base.source(run))
    results |= _supervised(config, base, supervised_steps, console)
    console.print(table(results))
    return 0


def _supervised(
    config: "RunConfig", base: Path, steps: int, console: "Console"
) -> dict[str, Mapping[str, Any]]:
    """The held-out shares of the two models that were trained further without rewards."""
    from xmlgrpo_rewards.task import get_task
    from xmlgrpo_run.screen.progress import Stage
    from xmlgrpo_trainer.config.library_fields import tiny_settings
    from xmlgrpo_trainer.prepare import warm_start_shown
    from xmlgrpo_trainer.problems.split import load_problems
    from xmlgrpo_trainer.tiny.examples import Mixture

    settings = tiny_settings(config.model.tiny)
    mixtures = {
        "supervised, the same mixture": Mixture(settings.worked_habit, settings.tagged),
        "supervised, worked answers in the tags": Mixture(1.0, 1.0),
    }
    problems = load_problems(config, get_task(config.task))
    held_out = {problem.question for problem in problems.report + problems.validation}
    results = {}
    for name, mixture in mixtures.items():
        console.rule(f"{name}, {steps} steps")
        with Stage(console, name, unit="steps") as stage:
            folder = train_further(
                base,
                base.parent.parent,
                steps=steps,
                mixture=mixture,
                exclude=held_out,
                on_progress=warm_start_shown(stage),
            )
        results[name] = _examined(folder, config, problems.report, console)
    return results


def train_further(
    base: Path,
    runs: Path,
    *,
    steps: int,
    mixture: "Mixture",
    exclude: Collection[str],
    on_progress: "OnProgress | None" = None,
) -> Path:
    """Train a tiny model on fresh problems, with half of the warm start's peak rates.

    Args:
        base: what `ensure_tiny_model` made; left as it is.
        runs: where the new model's folder is made, named by all that decides it.
        mixture: which kinds of answer it learns from.
        on_progress: called every few steps; never when the folder is there.
    """
    from transformers import AutoModelForCausalLM

    from xmlgrpo_trainer.tiny.build import DESCRIPTION
    from xmlgrpo_trainer.tiny.examples import examples
    from xmlgrpo_trainer.tiny.problems import generate, warm_problems
    from xmlgrpo_trainer.tiny.settings import TinySettings
    from xmlgrpo_trainer.tiny.tokenizer import load_tokenizer
    from xmlgrpo_trainer.tiny.warm_start import train_on

    made = [base.name, steps, mixture, sorted(exclude)]
    digest = hashlib.sha256(json.dumps(made).encode()).hexdigest()[:12]
    description = read_json(base / DESCRIPTION)
    settings, seed = TinySettings(**description["settings"]), description["seed"]
    folder = runs / f"controls-{seed}-supervised-{digest}"
    if folder.is_dir():
        return folder
    rows = generate(
        steps * settings.warm_batch,
        f"further {seed}",
        largest_operand=settings.largest_operand,
        exclude={row["question"] for row in warm_problems(settings, seed)} | set(exclude),
    )
    lower = {name: getattr(settings, name) * LOWER_RATES for name in ("muon_lr", "adamw_lr")}
    kinds = random.Random(f"further kinds {seed}")  # noqa: S311 - no secret depends on it
    model = AutoModelForCausalLM.from_pretrained(base, use_safetensors=True)
    loss = train_on(
        model,
        examples(load_tokenizer(base), rows, mixture, kinds),
        dataclasses.replace(settings, **lower),
        seed,
        on_progress,
    )
    further = {"base": base.name, "steps": steps, "mixture": mixture._asdict(), "loss": loss}
    with replacing(folder) as partial:
        shutil.copytree(base, partial, ignore=shutil.ignore_patterns("*.safetensors"))
        model.save_pretrained(partial)
        write_json(partial / DESCRIPTION, description | {"further": further})
    return folder


def _examined(
    folder: Path, config: "RunConfig", problems: Any, console: "Console"
) -> Mapping[str, Any]:
    """Held-out shares of a model folder, asked as a training run asks them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from xmlgrpo_rewards.task import get_task
    from xmlgrpo_rollout.choice import choose_engine
    from xmlgrpo_rollout.engine import Sampling
    from xmlgrpo_rollout.stop_tokens import stop_ids
    from xmlgrpo_trainer.config.run_config import holdout_limit
    from xmlgrpo_trainer.problems.exam import Exam, take

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    stops = stop_ids(model, tokenizer)
    exam = Exam(
        engine=choose_engine(config.rollout, model, tokenizer, stops).engine,
        tokenizer=tokenizer,
        task=get_task(config.task),
        sampling=Sampling(holdout_limit(config), temperature=0.0),
        stops=stops,
        batch_size=config.holdout.batch_size,
        console=console,
    )
    return take(exam, "held-out problems", problems, step=0).metrics()


def table(results: Mapping[str, Mapping[str, Any]], names: Sequence[str] = SHOWN) -> "Table":
    """One row per model: held-out shares with their 95 % intervals."""
    from rich.table import Table

    made = Table(title="The same held-out problems, greedy, 95 % interval")
    made.add_column("", style="bold")
    for name in names:
        made.add_column(name.replace("_", " "), justify="right")
    for name, metrics in results.items():
        made.add_row(name, *(str(Share(**metrics[shown])) for shown in names))
    return made


if __name__ == "__main__":
    main()
