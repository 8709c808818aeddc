"""The GRPO update: trl's `GRPOTrainer`, built from the configuration.

GRPO (Shao et al. 2024, "DeepSeekMath", arXiv 2402.03300, section 4.1): for each prompt a group of G
completions is sampled; a completion's advantage is its reward less the group's mean, divided by
the group's standard deviation (eq. 3 and below); the policy follows the clipped ratio objective.
Nothing of that is written again here.  Where the defaults differ from the paper they are trl's:
no KL term (`beta` 0) and the token-level DAPO loss (arXiv 2503.14476, eq. 8).
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from math import gcd, lcm
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from xmlgrpo_rewards.adapters import trl
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Example, Task
from xmlgrpo_rollout.engine import Engine, Sampling
from xmlgrpo_rollout.stop_tokens import stop_ids
from xmlgrpo_run.checkout import is_installed
from xmlgrpo_trainer.config.batch import shared
from xmlgrpo_trainer.config.run_config import RunConfig, completion_limit, grpo_fields
from xmlgrpo_trainer.grpo import trl_names  # noqa: F401 - checks them
from xmlgrpo_trainer.grpo.fast_step.speed_up import speed_up
from xmlgrpo_trainer.model.load import Placement, Policy, refusals
from xmlgrpo_trainer.model.unsloth import trl_arguments
from xmlgrpo_trainer.problems.prompts import encode_prompts

ROLLOUT_TIME = "rollout_time"  # in a logged step: the seconds of trl's `step_time` that drew
RolloutFunction = Callable[[list[Any], Any], dict[str, Any]]


def build_arguments(
    config: RunConfig,
    placement: Placement,
    checkpoints: Path,
    rewards: Sequence[float],
    processes: int = 1,
) -> GRPOConfig:
    """Build trl's arguments, those of one of `processes` that share the batch.

    Args:
        rewards: the reward functions' weights, in their order.

    Raises:
        UserError: trl refuses the combination, or checkpoints would fall inside a generation
            batch, which a resumed run could not repeat.
    """
    options = shared(grpo_fields(config), processes)
    on_gpu = placement.device == "cuda"
    options.setdefault("gradient_checkpointing", on_gpu)
    if on_gpu and placement.backend == "plain":
        # fused norms, and no whole logits: those are 8 bytes a token and piece of the vocabulary
        options.setdefault("use_liger_kernel", is_installed("liger_kernel"))
    if config.rollout == "vllm":
        # else it reserves room for a text of the model's whole window
        longest = config.data.max_prompt_tokens + completion_limit(config)
        options.setdefault("vllm_max_model_length", longest)
    if processes > 1:
        # every weight of the adapter has a part in every loss: no search for those that have none
        options.setdefault("ddp_find_unused_parameters", False)
        options.setdefault("log_level", "error")  # transformers' own for several is "warning"
        options.setdefault("log_level_replica", "error")
    for beta in {"adam_beta1", "adam_beta2"} & options.keys():
        options[beta] = float(options[beta])  # torch takes no whole number, which YAML makes of 0
    trackers = [*([] if config.watch.wandb == "off" else ["wandb"]), *config.watch.trackers]
    with refusals("grpo: trl"):
        arguments = trl_arguments(
            GRPOConfig,
            {
                **options,
                "output_dir": str(checkpoints),
                "seed": config.seed,
                "reward_weights": list(rewards),
                "report_to": trackers or "none",
                "project": config.watch.wandb_project,
                "run_name": checkpoints.parent.name,
                "use_cpu": not on_gpu,
                "bf16": on_gpu and placement.dtype == "bfloat16",
                "use_vllm": config.rollout == "vllm",
                "disable_tqdm": True,
            },
        )
    every = steps_between_generations(arguments)
    if arguments.save_strategy == "steps" and arguments.save_steps % every:
        nearest = max(every, round(arguments.save_steps / every) * every)
        raise UserError(
            f"grpo.save_steps = {arguments.save_steps} falls inside a generation batch, which is "
            f"used for {every} steps and is not in a checkpoint; set save_steps={nearest:g}"
        )
    return arguments


def steps_between_generations(arguments: GRPOConfig) -> int:
    """Optimiser steps after which a generation batch and a step end together."""
    uses: int = arguments.steps_per_generation * arguments.num_iterations
    accumulated: int = arguments.gradient_accumulation_steps
    return lcm(uses, accumulated) // accumulated


def training_rows(task: Task, problems: Sequence[Example]) -> Dataset:
    """Problems as trl's rows: `prompt` (messages), and what a reward may read of the problem.

    That is `answer` (the gold answer), `id`, `question` and `judge`, as for `grading.grades`.
    """
    return Dataset.from_list([trl.row(task, problem) for problem in problems])


def rollout_sampling(arguments: GRPOConfig, limit: int) -> Sampling:
    """How completions are drawn, `limit` tokens at most.

    Raises:
        UserError: a setting is out of its range.
    """
    try:
        return Sampling(
            max_new_tokens=limit,
            temperature=arguments.temperature,
            top_p=arguments.top_p,
            # beside vLLM Unsloth's own default is vLLM's word for all tokens, -1
            top_k=0 if arguments.top_k in {None, -1} else arguments.top_k,
            min_p=arguments.min_p or 0.0,
        )
    except UserError as error:
        raise UserError(f"grpo.{error}") from None


def rollout_function(
    engine: Engine, tokenizer: Any, sampling: Sampling, group: int
) -> RolloutFunction:
    """Make trl draw its completions from `engine`.

    trl repeats each prompt G times in a row; the engine gets each once, with the number of samples.

    Args:
        group: G, the completions per prompt.  Two processes may share a group; then each of them
            has runs of equal prompts that are shorter, and as long as one another.
    """

    def rollout(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        samples = gcd(len(prompts), group)
        distinct = encode_prompts(tokenizer, prompts[::samples])
        if not trainer.use_vllm:  # else trl has asked for fresh weights already
            engine.refresh()
        began = time.perf_counter()
        completions = engine(distinct, samples, sampling)
        # one entry, the sum of a step's rollouts: trl logs the mean of a list and empties it
        spent = trainer._metrics["train"][ROLLOUT_TIME]  # noqa: SLF001 - lists by name
        spent[:] = [sum(spent) + time.perf_counter() - began]
        logprobs = [completion.logprobs for completion in completions]
        return {
            "prompt_ids": [ids for ids in distinct for _ in range(samples)],
            "completion_ids": [completion.tokens for completion in completions],
            "logprobs": None if None in logprobs else logprobs,
        }

    return rollout


def build_trainer(
    *,
    policy: Policy,
    arguments: GRPOConfig,
    rows: Dataset,
    rewards: Sequence[Callable[..., list[float | None]]],
) -> GRPOTrainer:
    """Build trl's trainer.

    Raises:
        UserError: trl refuses a setting for this model, or peft finds no module to adapt.
    """
    with warnings.catch_warnings():
        # peft warns that a tied head exists; check_lora refuses to train it
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")
        try:
            trainer = GRPOTrainer(
                model=policy.model,
                reward_funcs=list(rewards),
                args=arguments,
                train_dataset=rows,
                processing_class=policy.tokenizer,
                peft_config=policy.peft_config,
            )
        except (ValueError, TypeError, AttributeError, NotImplementedError, ImportError) as error:
            if "target modules" in str(error).lower():
                raise UserError(f"lora.target_modules: {error}") from None
            with refusals("grpo: trl"):  # what it finds wrong with the settings for this model
                raise
    for settings in trainer.model.peft_config.values():
        _put_in_order(settings)
    # trl's card among the checkpoints names no base; push writes the card
    trainer.create_model_card = lambda **_: None
    trainer.remove_callback(PrinterCallback)
    policy.tokenizer.padding_side = "left"  # Unsloth's trainer turns it round
    # trl knows those of the folder alone, and would take a reply that ends otherwise for a cut one
    trainer.eos_token_ids = stop_ids(policy.model, policy.tokenizer)
    placement = policy.placement
    if placement.device == "cuda" and placement.backend == "plain":
        speed_up(trainer)
    elif placement.device == "cpu" and placement.dtype != "float32":
        from xmlgrpo_trainer.grpo.fast_step.float32_loss import in_chunks_of_float32

        in_chunks_of_float32(trainer)
    return trainer


def _put_in_order(settings: Any) -> None:
    """Have peft write the sets of its settings in one order; it writes them as they hash.

    Equal runs would leave files that differ, and a continued one another digest of its adapter.
    """
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, set):
            setattr(settings, field.name, sorted(value))
