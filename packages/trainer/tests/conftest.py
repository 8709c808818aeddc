"""A tiny model that takes seconds to make, and the configuration of a run that takes seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xmlgrpo_trainer.config.run_config import RunConfig, check_config

# The real recipe, half as wide, with a warm start that is far too short: it writes the tags now and
# then.
SHORT_TINY = {
    "hidden_size": 64,
    "head_dim": 16,
    "mlp_size": 192,
    "warm_steps": 60,
    "warm_threads": 1,
}


def quick_raw(**changes: Any) -> dict[str, Any]:
    """A run of six small steps, as YAML would give it; dotted names change a key."""
    raw: dict[str, Any] = {
        "model": {"name": "tiny", "backend": "plain", "device": "cpu", "tiny": dict(SHORT_TINY)},
        "data": {"source": "generated", "generated_rows": 64, "max_prompt_tokens": 256},
        "holdout": {"report_rows": 24, "validation_rows": 16, "every": 3, "batch_size": 64},
        "rollout": "graph",
        "lora": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
        "grpo": {
            "max_steps": 6,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 16,
            "num_generations": 4,
            "max_completion_length": 24,
            "save_steps": 2,
            "lr_scheduler_type": "constant",
        },
        "watch": {"samples_every": 3},
    }
    for name, value in changes.items():
        *parents, last = name.split("__")
        place = raw
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return raw


class Letters:
    """A tokenizer of one token per letter, as far as prompts and replies need one.

    A prompt is the instructions, an empty line, the question.
    """

    chat_template = "{{ messages }}"
    bos_token, bos_token_id = "<bos>", None

    def apply_chat_template(self, conversation: list[Any], **_: Any) -> str:
        return "\n\n".join(message["content"] for message in conversation)

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

    def batch_decode(self, rows: list[list[int]], **_: Any) -> list[str]:
        return ["".join(chr(code) for code in row if code) for row in rows]


@pytest.fixture(scope="session")
def letters() -> Letters:
    """A tokenizer whose ids one can read; 0 ends a reply."""
    return Letters()


QuickConfig = Callable[..., RunConfig]


@pytest.fixture(scope="session")
def quick_config() -> QuickConfig:
    """Makes the configuration of a run that takes seconds; `grpo__max_steps=9` changes a key."""
    return lambda **changes: check_config(quick_raw(**changes), "test")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs; the tiny base model in it is made once for all tests."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="session")
def tiny_base(runs: Path) -> Path:
    """The folder of the short tiny model."""
    from xmlgrpo_trainer.tiny.build import ensure_tiny_model
    from xmlgrpo_trainer.tiny.settings import TinySettings

    return ensure_tiny_model(runs / "base", TinySettings(**SHORT_TINY), seed=0)
