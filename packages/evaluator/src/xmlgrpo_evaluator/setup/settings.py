"""How an evaluation is done: everything but the model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xmlgrpo_evaluator.setup.engines import ENGINES
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import FORMAT_VERSION

OWN_FORM = "_xml"  # gsm8k, a task of xmlgrpo_rewards -> gsm8k_xml, lm-eval's name of it
DEFAULT_TASK = f"gsm8k{OWN_FORM}"
DEFAULT_MAX_NEW_TOKENS = 1024
REPEATED = "_k"  # gsm8k_xml -> gsm8k_xml_k: the form of a task with several replies an item


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked, and how.

    Attributes:
        tasks: names of lm-eval tasks.
        limit: only the first items of each task; None for all.
        seed: of sampled replies and of shots.
        k: replies an item; 1 is greedy, more are sampled.
        max_new_tokens: the limit of a reply.
        batch_size: replies written at once; a number, `auto`, or None for the backend's default.
        engine: what writes the replies of an HF model: `graph`, `generate` (lm-eval's own call), or
            `auto` for `graph` where it can serve.
        chat_template: ask through the model's chat template.
        check_batch: how many items are asked again alone, to see that batching changes nothing.
        data: local items instead of the Hub's: a folder with test.jsonl, or a .jsonl file.
        include_path: folders with further lm-eval tasks.
        harness: further arguments of lm-eval's `simple_evaluate`.
        model_args: further arguments of the lm-eval model.
    """

    tasks: tuple[str, ...] = (DEFAULT_TASK,)
    limit: int | None = None
    seed: int = 0
    k: int = 1
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    batch_size: int | str | None = None
    engine: str = "auto"
    chat_template: bool = True
    check_batch: int = 4
    data: Path | None = None
    include_path: tuple[Path, ...] = ()
    harness: Mapping[str, Any] = field(default_factory=dict)
    model_args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (
            ("--limit", self.limit),
            ("--k", self.k),
            ("--max-new-tokens", self.max_new_tokens),
        ):
            if value is not None and value < 1:
                raise UserError(f"{name}: expected a whole number above 0, got {value}")
        if self.check_batch < 0:
            raise UserError(f"--check-batch: expected 0 or more items, got {self.check_batch}")
        if self.engine not in ENGINES:
            raise UserError(f"--engine: expected one of {', '.join(ENGINES)}, got {self.engine!r}")
        if "engine" in self.model_args:
            raise UserError("the engine is chosen with --engine, not with --model_args engine=")
        size = "auto" if self.batch_size is None else str(self.batch_size)
        if not size.startswith("auto") and not (size.isdigit() and int(size) > 0):
            raise UserError(
                f"--batch-size: expected a whole number above 0 or 'auto', got {self.batch_size!r}"
            )
        if self.data and not self.data.exists():
            raise UserError(f"--data: nothing at {self.data}; name a folder or a .jsonl file")

    def identity(self, data_digest: str | None) -> dict[str, Any]:
        """What must be equal for two results to be compared; JSON values.

        `data_digest` is of the local items, whether `data` or the environment named them.

        The batch size is not part of it: it must not matter, and an evaluation that ran out of
        memory is continued with a smaller one.  The engine is part of an HF model's subject only.
        """
        return {
            "tasks": list(self.tasks),
            "limit": self.limit,
            "seed": self.seed,
            "k": self.k,
            "max_new_tokens": self.max_new_tokens,
            "chat_template": self.chat_template,
            "data": data_digest,
            "format_version": FORMAT_VERSION,
            "harness": dict(self.harness),
            "model_args": dict(self.model_args),
        }

    def suffix(self, own_task: str = DEFAULT_TASK) -> str:
        """What tells result files with other settings apart; empty for the defaults.

        Args:
            own_task: what is asked unless another task is named: of a run, its own.
        """
        parts = [task for task in self.tasks if self.tasks != (own_task,)]
        parts += [f"n{self.limit}"] if self.limit else []
        parts += [f"k{self.k}"] if self.k > 1 else []
        parts += [f"s{self.seed}"] if self.seed else []
        return "".join(f"-{part}" for part in parts)
