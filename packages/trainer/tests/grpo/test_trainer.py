"""What trl's rollout gets from our engines: each prompt asked once, whatever stands beside it."""

from collections import defaultdict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.engine import Completion, Sampling
from xmlgrpo_trainer.grpo.trainer import rollout_function

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
