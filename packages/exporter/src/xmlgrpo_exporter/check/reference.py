"""What every GGUF of a model is compared with: prompts, their ids, the model's own replies."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from xmlgrpo_exporter.check.questions import AWKWARD, Comparison, system_of
from xmlgrpo_exporter.transformers_model import (
    LoadedModel,
    SourceModel,
    load_folder,
    load_libraries,
)
from xmlgrpo_run.disk import require_free
from xmlgrpo_run.prompt import Messages
from xmlgrpo_run.screen.say import say

CALIBRATION_PROMPTS = 128
FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Reference:
    """Prompts, every question and then the awkward texts, and what the model makes of them."""

    source: SourceModel
    model: LoadedModel
    comparison: Comparison
    # the prompts as messages that the template can write; none for a model without a template
    chats: list[Messages]
    texts: list[str]  # the same as the model's template renders them; without one, as they are
    ids: list[list[int]]  # the same as token ids
    replies: list[list[int]]  # greedy, to the first `len(replies)` prompts, stop id included

    @property
    def template(self) -> str | None:
        """The chat template the model was trained with; None for one that continues plain text."""
        tokenizer = self.model.tokenizer
        # of several the one that prompts are written with
        return str(tokenizer.get_chat_template()) if tokenizer.chat_template else None

    @property
    def prompts_have_bos(self) -> bool:
        """Whether the prompts start with BOS."""
        bos = self.model.tokenizer.bos_token_id
        return bos is not None and self.ids[0][:1] == [bos]

    @property
    def is_silent(self) -> bool:
        """Whether the model itself says nothing to the first question."""
        return set(self.replies[0]) <= set(self.model.stop_ids)

    @property
    def shortest(self) -> int:
        """Which of the answered questions is the shortest, for a command that is to be pasted."""
        answered = self.comparison.answered
        return min(range(len(answered)), key=lambda place: len(answered[place]))

    @property
    def system_text(self) -> str:
        """What the model is told before every question; empty for one that continues plain text."""
        asked = self.comparison.chats(self.comparison.answered[:1])
        return system_of(asked[0]) if self.chats else ""

    @property
    def calibration(self) -> list[list[int]]:
        """Prompts that no gate looks at, to calibrate with."""
        return self.ids[len(self.replies) : len(self.ids) - len(AWKWARD)][:CALIBRATION_PROMPTS]

    def as_json(self) -> dict[str, Any]:
        """What files are compared with, for check.json."""
        comparison = self.comparison
        return {
            "task": comparison.task,
            "model": {"folder": self.source.folder.name, "fingerprint": self.source.fingerprint},
            "questions": {"source": comparison.questions.source, "tokenized": len(self.ids)},
            "replies": {"count": len(self.replies), "new_tokens": comparison.new_tokens},
        }


def answer_questions(source: SourceModel, comparison: Comparison) -> Reference:
    """Load a model folder and let it answer.

    Raises:
        UserError: the folder is no model, its chat template refuses our messages, or the temporary
            folder is too full for the logits that a file's are compared by.
    """
    console, questions = comparison.console, comparison.questions
    load_libraries(console)
    say(console, escape(f"replies of {source.folder} to compare with ({questions.source})"))
    model = load_folder(source.folder, comparison.device, console)
    row: int = model.model.config.get_text_config().vocab_size  # of logits
    require_free(
        Path(tempfile.gettempdir()),
        comparison.prompts * comparison.new_tokens * row * FLOAT32_BYTES,
        "the comparison of logits",
        "set TMPDIR to a folder on another disk, or compare fewer (--prompts)",
    )
    asked = (*questions.texts, *AWKWARD)
    prompts = model.prompts(comparison.chats(asked)) if model.tokenizer.chat_template else []
    chats = [prompt.chat for prompt in prompts]
    texts = [prompt.text for prompt in prompts] or model.with_bos(asked)
    ids = model.token_ids(texts)
    answered = ids[: len(comparison.answered)]
    replies = model.greedy(answered, comparison.new_tokens, console, "replies to compare with")
    return Reference(source, model, comparison, chats, texts, ids, replies)
