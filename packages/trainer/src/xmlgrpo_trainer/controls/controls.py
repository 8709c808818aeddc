"""The embedded default's controls: what else could explain its gain?

    make demo-controls                  # python -m xmlgrpo_trainer.controls.controls --seed 0

From the same warm start, on the same held-out problems:

- GRPO with all rewards: the default itself.
- GRPO with the format rewards only: if the format alone did it, lenient accuracy would rise.
- More supervised training on the warm start's last mixture: if more of the same did it, likewise.
- Supervised training on worked answers in the reply format: what one would do who has such
  answers.  It does better than GRPO for the same compute, since it goes on teaching arithmetic;
  GRPO needs the final numbers only.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmlgrpo_gguf.threads import let_threads_sleep
from xmlgrpo_rewards.errors import UserError, run_command
from xmlgrpo_rewards.interval import Share
from xmlgrpo_run.folder import OUTPUTS, RunFolder

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from xmlgrpo_trainer.config.run_config import RunConfig

CORRECTNESS = "correctness_reward_func"
SUPERVISED_STEPS = 500  # about the CPU time of the default's GRPO
SHOWN = ("strict_format", "strict_accuracy", "lenient_accuracy", "worked")
ALL_REWARDS, FORMAT_REWARDS = "GRPO, all rewards", "GRPO, format rewards only"


def main() -> None:
    """Entry point of `make demo-controls`."""
    run_command(run)


def run() -> int:
    """Read the command line, run the controls, return the exit code."""
    options = argparse.ArgumentParser(
        prog="demo-controls", description="Rerun the embedded default's controls."
    )
    options.add_argument("--config", type=Path, default=Path("configs/tiny.yaml"))
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--supervised-steps", type=int, default=SUPERVISED_STEPS)
    options.add_argument("overrides", nargs="*", metavar="key=value")
    asked = options.parse_args()

    from xmlgrpo_trainer.config.run_config import TINY, load_config

    config = load_config(asked.config, [*asked.overrides, f"seed={asked.seed}"])
    if config.model.name != TINY or config.data.source != "generated":
        raise UserError(
            "the controls belong to the embedded default: expected model.name 'tiny' and "
            f"data.source 'generated', got {config.model.name!r} and {config.data.source!r}"
        )
    if CORRECTNESS not in config.rewards:
        raise UserError(f"rewards: expected {CORRECTNESS} among them, for a control to leave out")
    let_threads_sleep()
    from xmlgrpo_trainer.screen.console import make_console, quiet_libraries

    quiet_libraries()
    runs = OUTPUTS  # beside the other runs, so that they share the warm start
    return compare(config, runs, asked.supervised_steps, make_console())


def compare(config: "RunConfig", runs: Path, supervised_steps: int, console: "Console") -> int:
    """Run the controls that are not there yet under `runs`, and print all in one table.

    Returns:
        0, or the exit code of a GRPO run that was stopped.
    """
    from xmlgrpo_trainer.train import train

    without_correctness = {k: v for k, v in config.rewards.items() if k != CORRECTNESS}
    grpo = {
        ALL_REWARDS: (config, _folder(runs, config, "all-rewards")),
        FORMAT_REWARDS: (
            config.model_copy(update={"rewards": without_correctness}),
            _folder(runs, config, "format-rewards"),
        ),
    }
    results: dict[str, Mapping[str, Any]] = {}
    base = ""
    for name, (its_config, folder) in grpo.items():
        console.rule(name)
        if code := train(its_config, folder, console):
            return code
        manifest = RunFolder(folder).read_manifest()
        base = manifest["base"]["name"]
        results |= {
            "warm start": manifest["holdout"]["before"],
            name: manifest["holdout"]["after"],
        }
    results |= _supervised(config, Path(base), runs, supervised_steps, console)
    console.print(table(results))
    return 0


def _folder(runs: Path, config: "RunConfig", name: str) -> Path:
    return runs / f"controls-{config.seed}-{name}"


def _supervised(
    config: "RunConfig", base: Path, runs: Path, steps: int, console: "Console"
) -> dict[str, Mapping[str, Any]]:
    """The held-out shares of the two models that were trained further without rewards."""
    from xmlgrpo_rewards.task import get_task
    from xmlgrpo_run.screen.progress import Stage
    from xmlgrpo_trainer.config.library_fields import tiny_settings
    from xmlgrpo_trainer.controls.further import continue_warm_start
    from xmlgrpo_trainer.problems.split import load_problems
    from xmlgrpo_trainer.screen.console import warm_start_shown
    from xmlgrpo_trainer.tiny.examples import Mixture

    settings = tiny_settings(config.model.tiny)
    mixtures = {
        "supervised, the same mixture": Mixture(settings.worked_habit, settings.tagged),
        "supervised, worked answers in the tags": Mixture(1.0, 1.0),
    }
    task = get_task(config.task)
    problems = load_problems(config.data, config.holdout, task, config.seed, config.model.tiny)
    asked = {problem.question for problem in problems.report + problems.validation}
    results = {}
    for name, mixture in mixtures.items():
        console.rule(f"{name}, {steps} steps")
        with Stage(console, name, unit="steps") as stage:
            folder = continue_warm_start(
                base,
                _folder(runs, config, f"supervised-{mixture.worked:g}-{mixture.tagged:g}-{steps}"),
                steps=steps,
                mixture=mixture,
                exclude=asked,
                on_progress=warm_start_shown(stage),
            )
        results[name] = _examined(folder, config, problems.report)
    return results


def _examined(folder: Path, config: "RunConfig", problems: Any) -> Mapping[str, Any]:
    """Held-out shares of a model folder, asked as a training run asks them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from xmlgrpo_rewards.task import get_task
    from xmlgrpo_rollout.choice import choose_engine
    from xmlgrpo_rollout.sampling import Sampling
    from xmlgrpo_trainer.config.defaults import completion_limit
    from xmlgrpo_trainer.problems.exam import Exam, take
    from xmlgrpo_trainer.problems.prompts import stop_ids

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    stops = stop_ids(model, tokenizer)
    limit = config.holdout.max_new_tokens or completion_limit(config)
    exam = Exam(
        engine=choose_engine(config.rollout, model, tokenizer, stops).engine,
        tokenizer=tokenizer,
        task=get_task(config.task),
        sampling=Sampling(limit, temperature=0.0),
        stops=stops,
        batch_size=config.holdout.batch_size,
    )
    return take(exam, problems, step=0).metrics()


def table(results: Mapping[str, Mapping[str, Any]]) -> "Table":
    """One row a model: held-out shares with their 95 % intervals."""
    from rich.table import Table

    made = Table(title="The same held-out problems, greedy, 95 % interval")
    made.add_column("", style="bold")
    for name in SHOWN:
        made.add_column(name.replace("_", " "), justify="right")
    for name, metrics in results.items():
        made.add_row(name, *(str(Share(**metrics[shown])) for shown in SHOWN))
    return made


if __name__ == "__main__":
    main()
