"""Everything before the first step: what can be refused is refused before the step that costs.

The settings are checked before the data is read, the data before the model is built or loaded, the
model before the training.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.markup import escape

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Task, extras, get_task
from xmlgrpo_rewards.total import WeightedReward, check_reward_names, load_rewards
from xmlgrpo_rollout.vllm import check_vllm
from xmlgrpo_run.folder import RunFolder, model_source
from xmlgrpo_run.screen.loading import loading_model, reading_libraries
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say
from xmlgrpo_trainer.config.defaults import LORA_DEFAULTS
from xmlgrpo_trainer.config.early_check import check_early
from xmlgrpo_trainer.config.library_fields import check_grpo, tiny_settings
from xmlgrpo_trainer.config.recorded_fields import library_class
from xmlgrpo_trainer.config.run_config import TINY, RunConfig, check_context, completion_limit
from xmlgrpo_trainer.model.load import (
    Placement,
    Policy,
    check_model_folder,
    choose_placement,
    load_policy,
)
from xmlgrpo_trainer.model.unsloth import check_shared_vllm, import_unsloth
from xmlgrpo_trainer.plan.shapes import ModelShape, find_shape
from xmlgrpo_trainer.plan.workload import engine_of
from xmlgrpo_trainer.problems.pass_rates import read_pass_rates
from xmlgrpo_trainer.problems.split import (
    Problems,
    check_golds,
    drop_long,
    load_problems,
    problem_files,
)
from xmlgrpo_trainer.ranks.processes import Ranks
from xmlgrpo_trainer.reporting.tracker_setup import check_trackers, prepare_trackers
from xmlgrpo_trainer.resume.failures import check_room, failures_in_words

if TYPE_CHECKING:
    from trl import GRPOConfig

    from xmlgrpo_run.measures.holdout import HoldoutResult
    from xmlgrpo_trainer.problems.exam import Exam

LIBRARY_MODULES = 4700  # about: what torch, transformers, trl and peft consist of, as locked
BUILDING = (
    "Building the tiny Gemma 3 (once for each data.seed; kept for later runs): a warm start on "
    "made-up problems, before any GRPO."
)
WARM_START = "warm start"
WAITING = "another process is building the tiny Gemma 3; waiting for it"


@dataclass(frozen=True, slots=True)
class CheckedSettings:
    """What the configuration means on this machine, checked by the libraries themselves."""

    placement: Placement
    rewards: list[WeightedReward]
    arguments: "GRPOConfig"  # of trl's trainer, in one of the processes


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that a run needs before its first step."""

    config: RunConfig
    folder: RunFolder
    console: Console
    ranks: Ranks
    task: Task
    rewards: list[WeightedReward]
    arguments: "GRPOConfig"
    problems: Problems
    base: str  # the folder or Hub id of the model that is trained from
    policy: Policy


class Trained(NamedTuple):
    """What training leaves for the end of the run."""

    trainer: Any  # trl's, with the adapter after the last step
    exam: "Exam"  # asks the report problems as it did before training
    before: "HoldoutResult"  # the report problems before training
    rollout: str  # what drew the completions: `EngineChoice.drew`
    stopped_by: int | None  # the signal that stopped the run; None at its end


def prepare(config: RunConfig, folder: RunFolder, console: Console, ranks: Ranks) -> Prepared:
    """Check what is left to check, read the problems, make or load the model.

    Raises:
        UserError: a library refuses a setting, the data or the model cannot be read.
    """
    ranks.together(lambda: check_names(config))
    ranks.on_first(lambda: prepare_trackers(config.watch, folder))
    task = get_task(config.task)
    # a file of too few rows is known before the libraries, which take seconds, are read
    early = _read_problems(config, task, console, ranks) if config.data.source == "json" else None
    with reading_libraries(console, LIBRARY_MODULES):
        settings = ranks.together(lambda: check_settings(config, folder, ranks))
    problems = _read_problems(config, task, console, ranks) if early is None else early
    check_golds(problems, config.rewards, task)
    check_enough(problems, settings.arguments)
    base = ranks.on_first(lambda: base_model(config, folder.root.parent, console))
    with loading_model(console, base, config.model.revision):
        policy = ranks.together(
            lambda: load_policy(config, base, settings.placement, settings.arguments)
        )
    with Stage(console, "measuring the prompts"):
        kept = ranks.together(
            lambda: drop_long(problems, task, policy.tokenizer, config.data.max_prompt_tokens)
        )
    check_enough(kept, settings.arguments)
    return Prepared(
        config=config,
        folder=folder,
        console=console,
        ranks=ranks,
        task=task,
        rewards=settings.rewards,
        arguments=settings.arguments,
        problems=kept,
        base=base,
        policy=policy,
    )


def _read_problems(config: RunConfig, task: Task, console: Console, ranks: Ranks) -> Problems:
    if graded := extras(task).ready():
        say(console, escape(graded), head="[bold]grading   [/] ")
    with Stage(console, "reading the problems"):
        return ranks.together(lambda: load_problems(config, task))


def refuse_early(config: RunConfig, processes: int) -> None:
    """Refuse what the configuration alone shows, before a folder is made or a library imported.

    Raises:
        UserError: as `check_early` and `check_trackers`; of a model whose shape is known here:
            texts do not fit into it, or the engine that is asked for cannot serve it.
    """
    check_early(config, processes)
    check_trackers(config.watch)
    shape = _known_shape(config)
    if shape is not None:
        check_context(config, shape.context)
        engine_of(config, shape)


def check_enough(problems: Problems, arguments: "GRPOConfig") -> None:
    """See that the problems fill a generation batch: trl leaves a smaller one out without a word.

    Raises:
        UserError: they do not, so that the run would take no step.
    """
    needed = arguments.generation_batch_size // arguments.num_generations
    if len(problems.train) < needed:
        raise UserError(
            f"expected at least {needed} training problems, as many as a generation batch of "
            f"{arguments.generation_batch_size} completions asks, got {len(problems.train)}; take "
            "more, or lower grpo.per_device_train_batch_size"
        )


def check_names(config: RunConfig) -> None:
    """Refuse what is not there, before the libraries are read: that alone takes seconds.

    Raises:
        UserError: no such reward, no file of problems or of their rates, no model folder; or this
            machine lacks what the task grades with.
    """
    task = get_task(config.task)
    extras(task).ready()
    check_reward_names(config.rewards, task)
    for key, name in (("data.path", config.data.path), ("holdout.path", config.holdout.path)):
        if name is not None:
            problem_files(name, key, task)
    if config.sampling.rates:
        read_pass_rates(Path(config.sampling.rates))
    if config.model.name != TINY:
        check_model_folder(model_source(config.model.name))


def _known_shape(config: RunConfig) -> ModelShape | None:
    try:
        return find_shape(config.model)
    except UserError:
        return None  # loading the model says what is wrong with it, if anything is


def check_settings(config: RunConfig, folder: RunFolder, ranks: Ranks) -> CheckedSettings:
    """Let the libraries check the configuration, before anything is read, built or loaded.

    Raises:
        UserError: a setting is unknown, impossible, or cannot be had on this machine.
    """
    placement = choose_placement(config.model)
    if config.frozen_norms and placement.device == "cpu":
        raise UserError("frozen_norms: its kernels need a GPU; set it to false on a CPU")
    if config.rollout == "vllm":
        check_vllm(placement.device)
    if placement.backend == "unsloth":
        # before trl, transformers and peft, or its patches do not take; and before the rewards,
        # because a user's reward module may import any of them
        import_unsloth(folder.unsloth)
    rewards = load_rewards(config.rewards, get_task(config.task))
    # once more, with the class itself: Unsloth's has fields that are not recorded
    check_grpo(config.grpo, library_class("GRPOConfig"))
    from xmlgrpo_trainer.grpo.trainer import build_arguments, rollout_sampling
    from xmlgrpo_trainer.model.dry_run import dry_run

    weights = [reward.weight for reward in rewards]
    arguments = build_arguments(config, placement, folder.checkpoints, weights, ranks.count)
    rollout_sampling(arguments, completion_limit(config))
    dry_run(config, placement, arguments)
    if placement.backend == "unsloth":
        check_shared_vllm(config, arguments)
    if ranks.is_first:
        check_room(folder.root, arguments, adapter_weights(config))
    return CheckedSettings(placement, rewards, arguments)


def check_planned(config: RunConfig, shape: ModelShape, processes: int, *, here: bool) -> None:
    """Let the libraries check a configuration as `check_settings` does, for a run that is planned.

    Nothing is downloaded: where the model's configuration is not here, one is made of its shape.

    Args:
        processes: that would share the run.
        here: the run would be on this machine; elsewhere, what is not installed here is no refusal.

    Raises:
        UserError: a setting is impossible, or cannot be had on this machine.
    """
    placement = Placement("plain", "cuda", "float32", "it is planned for another machine")
    if here:
        placement = choose_placement(config.model)
    if "unsloth" in {config.model.backend, placement.backend}:
        return  # it patches trl when it is imported, and attaches an adapter of its own
    rewards = load_rewards(config.rewards, get_task(config.task))
    from xmlgrpo_trainer.grpo.trainer import build_arguments, rollout_sampling
    from xmlgrpo_trainer.model.dry_run import model_config_by_shape, try_arguments, try_model

    if not here:  # the libraries ask this machine's GPU whether it has these numbers
        config = config.model_copy(update={"grpo": {**config.grpo, "tf32": None}})
    weights = [reward.weight for reward in rewards]
    with nullcontext() if here else _unless_not_installed():
        arguments = build_arguments(config, placement, Path("plan"), weights, processes)
        rollout_sampling(arguments, completion_limit(config))
        try_arguments(config, placement.device, arguments)
    with nullcontext() if here else _unless_not_installed():
        described = model_config_by_shape(config.model, shape)
        try_model(config, described, placement.dtype, arguments)


@contextmanager
def _unless_not_installed() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        if not isinstance(error.__cause__, ImportError):
            raise


def adapter_weights(config: RunConfig) -> int:
    """Weights of the adapter by the model's shape; 0 where the shape is not known yet."""
    shape, lora = _known_shape(config), {**LORA_DEFAULTS, **config.lora}
    return shape.lora_weights(lora["r"], lora["target_modules"]) if shape else 0


def base_model(config: RunConfig, runs: Path, console: Console) -> str:
    """The folder or Hub id of the base model; the tiny one is built now if it is not there.

    Args:
        runs: the folder of the runs; the tiny model is kept beside them, in `base/`.
    """
    if config.model.name != TINY:
        return model_source(config.model.name)
    from xmlgrpo_trainer.tiny.build import ensure_tiny_model
    from xmlgrpo_trainer.tiny.task.build import Recipe, ensure_task_model
    from xmlgrpo_trainer.tiny.task.rows import has_own_base

    def on_progress(step: int, steps: int, loss: float | None) -> None:
        if loss is None:
            console.print(
                f"the warm start goes on from step {step:,}" if step else BUILDING, highlight=False
            )
            stage.rename(WARM_START)  # the process that was waited for has ended before its end
        shown(step, steps, loss)

    with failures_in_words(runs), Stage(console, WARM_START) as stage:
        shown, on_wait = warm_start_shown(stage), partial(stage.rename, WAITING)
        settings, seed = tiny_settings(config.model.tiny), config.problem_seed
        if has_own_base(task := get_task(config.task)):
            recipe = Recipe(task, config.data.level, settings, seed)
            folder = ensure_task_model(runs / "base", recipe, on_progress, on_wait)
        else:
            folder = ensure_tiny_model(runs / "base", settings, seed, on_progress, on_wait)
    return str(folder.resolve())


def warm_start_shown(stage: Stage) -> Callable[[int, int, float | None], None]:
    """A warm start's `OnProgress`: it moves the stage's bar."""

    def on_progress(step: int, steps: int, loss: float | None) -> None:
        if loss is None:
            stage.count_from(step, steps, "steps")
        else:
            stage.update(step, note=f"loss {loss:.3f}")

    return on_progress
