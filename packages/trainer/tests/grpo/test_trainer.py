"""What trl's rollout gets from our engines: each prompt asked once, whatever stands beside it."""

import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Example, get_task
from xmlgrpo_rollout.engine import Completion, Sampling
from xmlgrpo_rollout.stop_tokens import END_OF_TURN
from xmlgrpo_trainer.config.run_config import check_config
from xmlgrpo_trainer.grpo.trainer import (
    build_arguments,
    build_trainer,
    rollout_function,
    training_rows,
)
from xmlgrpo_trainer.model.load import choose_placement, load_policy

SAMPLING = Sampling(max_new_tokens=4, temperature=1.0)


class Numbering:
    """An engine that answers a prompt with itself and the number of the sample."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.refreshed = 0

    def refresh(self) -> None:
        self.refreshed += 1

    def __call__(
        self, prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling
    ) -> list[Completion]:
        assert sampling == SAMPLING
        self.calls.append(("".join(chr(token) for [token] in prompts), samples))
        return [Completion([*prompt, n]) for prompt in prompts for n in range(samples)]


@pytest.mark.parametrize(
    ("prompts", "asked", "samples"),
    [
        pytest.param("aaaabbbb", "ab", 4, id="two-groups"),
        pytest.param("aaaaaaaabbbb", "aab", 4, id="equal-neighbours"),
        pytest.param("aaaaaaaa", "aa", 4, id="all-equal"),
        pytest.param("aa", "a", 2, id="half-a-group-of-two-processes"),
        pytest.param("aaaabb", "aab", 2, id="a-group-and-a-half"),
        pytest.param("bbcccc", "bcc", 2, id="the-other-half-and-a-group"),
        pytest.param("abb", "abb", 1, id="a-process-whose-part-divides-nothing"),
    ],
)
def test_a_group_is_one_prompt_with_its_samples(
    prompts: str, asked: str, samples: int, letters: Any
) -> None:
    engine: Any = Numbering()
    rollout = rollout_function(engine, letters, SAMPLING, 4)
    messages = [[{"role": "user", "content": letter}] for letter in prompts]
    logged: Any = defaultdict(list)
    trainer = SimpleNamespace(use_vllm=False, _metrics={"train": logged})
    drawn = rollout(messages, trainer)
    first = logged["rollout_time"][0]
    assert engine.calls == [(asked, samples)]
    assert engine.refreshed == 1
    assert drawn["prompt_ids"] == [[ord(letter)] for letter in prompts]
    assert [ids[:-1] for ids in drawn["completion_ids"]] == drawn["prompt_ids"]
    assert drawn["logprobs"] is None
    rollout(messages, trainer)
    assert [second > first > 0 for second in logged["rollout_time"]] == [True], "of both, one sum"


def test_a_trl_without_a_name_that_the_step_stands_on_is_refused() -> None:
    from trl import DPOTrainer, GRPOTrainer
    from trl.trainer import dpo_trainer, grpo_trainer

    from xmlgrpo_trainer.grpo.trl_names import check_trl

    check_trl(GRPOTrainer, grpo_trainer, "here")
    with pytest.raises(UserError, match=r"trl 9\.9 has no _generate_and.* trl 1\.14 to 1\.16"):
        check_trl(DPOTrainer, dpo_trainer, "9.9")


@pytest.mark.slow
def test_trl_takes_no_reply_that_ended_for_a_cut_one(tiny_base: Path, tmp_path: Path) -> None:
    """A base model's folder may name the end of a document alone; its replies end with a turn."""
    base = shutil.copytree(tiny_base, tmp_path / "base")
    described = json.loads((base / "generation_config.json").read_text())
    (base / "generation_config.json").write_text(json.dumps(described | {"eos_token_id": 1}))
    raw = {"model": {"name": str(base), "device": "cpu", "backend": "plain"}}
    config, task = check_config(raw, "test"), get_task("gsm8k")
    placement = choose_placement(config.model)
    policy = load_policy(config, str(base), placement)
    trainer = build_trainer(
        policy=policy,
        arguments=build_arguments(config, placement, tmp_path / "checkpoints", [1.0]),
        rows=training_rows(task, [Example("1", "What is 1 + 1?", "2", "")]),
        rewards=[lambda completions, **_: [0.0] * len(completions)],
    )
    ends = policy.tokenizer.convert_tokens_to_ids(["<eos>", END_OF_TURN])
    assert set(ends) <= set(trainer.eos_token_ids)
