"""What every GGUF of a model is compared with: prompts, their ids, the model's own replies."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from xmlgrpo_exporter.check.questions import AWKWARD, Chat, Comparison
from xmlgrpo_exporter.transformers_model import (
    LoadedModel,
    SourceModel,
    load_folder,
    load_libraries,
)
from xmlgrpo_run.disk import require_free
from xmlgrpo_run.screen.say import say

CALIBRATION_PROMPTS = 128
FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Reference:
    """Prompts, every question and then the awkward texts, and what the model makes of them."""

    source: SourceModel
    model: LoadedModel
    comparison: Comparison
    chats: list[Chat]  # the prompts as messages; empty for a model without a chat template
    texts: list[str]  # the same as the model's template renders them; without one, as they are
    ids: list[list[int]]  # the same as token ids
    replies: list[list[int]]  # greedy, to the first `len(replies)` prompts, stop id included

    @property
    def template(self) -> str | None:
        """The chat template the model was trained with; None for one that continues plain text."""
        template: str | None = self.model.tokenizer.chat_template
        return template

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
    def example(self) -> str:
        """The shortest of what was asked, for a command that is to be pasted."""
        users = [chat[-1]["content"] for chat in self.chats[: len(self.replies)]]
        return min(users or self.comparison.answered, key=len)

    @property
    def calibration(self) -> list[list[int]]:
        """Prompts that no gate looks at, to calibrate with."""
        return self.ids[len(self.replies) : len(self.ids) - len(AWKWARD)][:CALIBRATION_PROMPTS]

    def as_json(self) -> dict[str, Any]:
        """What files are compared with, for check.json."""
        comparison = self.comparison
        return {
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
    require_free(
        Path(tempfile.gettempdir()),
        comparison.prompts * comparison.new_tokens * model.vocabulary * FLOAT32_BYTES,
        "the comparison of logits",
        "set TMPDIR to a folder on another disk, or compare fewer (--prompts)",
    )
    asked = (*questions.texts, *AWKWARD)
    chats = comparison.chats(asked) if model.tokenizer.chat_template else []
    texts = model.render(chats) if chats else model.with_bos(asked)
    ids = model.token_ids(texts)
    answered = ids[: len(comparison.answered)]
    replies = model.greedy(answered, comparison.new_tokens, console, "replies to compare with")
    return Reference(source, model, comparison, chats, texts, ids, replies)
