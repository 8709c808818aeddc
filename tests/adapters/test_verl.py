"""verl's own reward manager, with our `compute_score` found as its configuration says."""

import asyncio
from typing import Any

import pytest

from xmlgrpo_rewards import get_task, render
from xmlgrpo_rewards.adapters import verl as adapter


class Characters:
    """A tokenizer at verl's edge: a token is a character's number."""

    def decode(self, ids: Any, *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "".join(chr(int(number)) for number in ids)


@pytest.mark.adapters
@pytest.mark.filterwarnings("ignore")  # of verl and ray, when they are imported
@pytest.mark.parametrize("name", ["gsm8k", "json_qa"])
def test_verl_pays_by_the_name_of_a_row(name: str) -> None:
    import torch
    from omegaconf import OmegaConf
    from tensordict import TensorDict
    from verl import DataProto
    from verl.trainer.ppo.reward import load_reward_manager

    task = get_task(name)
    sums = {"question": "16 - 3?", "answer": "16 - 3 = 13\n#### 13"}
    rows = [sums] if name == "gsm8k" else task.generated(1, 0)  # type: ignore[attr-defined]
    [example] = [task.example(row, "row-1") for row in rows]
    row = adapter.row(task, example)
    config = OmegaConf.create(
        {
            "reward": {
                "custom_reward_function": {
                    "path": "pkg://xmlgrpo_rewards.adapters.verl",
                    "name": "compute_score",
                },
                "reward_manager": {"source": "register", "name": "naive"},
            }
        }
    )
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    manager = load_reward_manager(config, Characters())

    def paid(reply: str) -> dict[str, Any]:
        ids = torch.tensor([[ord(character) for character in reply]])
        batch = TensorDict(
            {"responses": ids, "attention_mask": torch.ones_like(ids)}, batch_size=[1]
        )
        columns = {
            "data_source": [row["data_source"]],
            "reward_model": [row["reward_model"]],
            "extra_info": [dict(row["extra_info"])],
        }
        data = DataProto.from_dict(tensors=dict(batch), non_tensors=_arrays(columns))
        found: dict[str, Any] = loop.run_until_complete(manager.run_single(data))
        return found

    try:
        right = paid(render(example.solution, example.gold))
        wrong = paid(render(example.solution, "no idea"))
    finally:
        loop.close()
    assert right["reward_score"] == 4.0
    assert right["reward_extra_info"]["acc"] == 1.0
    assert wrong["reward_score"] == 1.5


def _arrays(columns: dict[str, list[Any]]) -> dict[str, Any]:
    import numpy as np

    return {name: np.array(values, dtype=object) for name, values in columns.items()}
