"""What every GGUF of one model is held against: prompts, ids, and the model's own replies."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from xmlgrpo_exporter.check.conversations import conversations
from xmlgrpo_exporter.check.questions import AWKWARD, QuestionSet
from xmlgrpo_exporter.check.reference import Reference, load_reference
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.disk import require_free
from xmlgrpo_run.screen.loading import loading_model
from xmlgrpo_run.screen.progress import Stage

CALIBRATION_PROMPTS = 128
LEAST_CALIBRATION = 8
FLOAT32_BYTES = 4

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Bench:
    """Prompts, and what the merged model makes of them.

    Attributes:
        reference: the merged model.
        source: where the questions came from, in words.
        chats: the prompts as messages: every question, then the awkward texts; empty for a model
            without a chat template.
        texts: the same as the model's own template renders them; without one, as they are.
        ids: the same as token ids.
        replies: greedy replies to the first `len(replies)` prompts, stop id included.
        new_tokens: longest reply.
    """

    reference: Reference
    source: str
    chats: list[Messages]
    texts: list[str]
    ids: list[list[int]]
    replies: list[list[int]]
    new_tokens: int

    @property
    def template(self) -> str | None:
        """The chat template the model was trained with; None for one that continues plain text."""
        template: str | None = self.reference.tokenizer.chat_template
        return template

    @property
    def brings_bos(self) -> bool:
        """Whether the prompts start with BOS."""
        bos = self.reference.tokenizer.bos_token_id
        return bos is not None and self.ids[0][:1] == [bos]

    @property
    def example(self) -> str:
        """The shortest of what was asked, for a command that is to be pasted."""
        count = len(self.replies)
        bos = self.reference.tokenizer.bos_token or ""
        asked = [chat[-1]["content"] for chat in self.chats[:count]]
        return min(asked or [text.removeprefix(bos) for text in self.texts[:count]], key=len)

    def spare(self) -> list[list[int]]:
        """Prompts that no gate looks at, to calibrate with."""
        return self.ids[len(self.replies) : len(self.ids) - len(AWKWARD)][:CALIBRATION_PROMPTS]


def require_spare(questions: QuestionSet, prompts: int) -> None:
    """See that enough questions are left to calibrate with.

    Raises:
        UserError: too few are.
    """
    checked = min(prompts, len(questions.texts))
    left = len(questions.texts) - checked
    if left < LEAST_CALIBRATION:
        raise UserError(
            f"an importance matrix needs {LEAST_CALIBRATION} questions besides the {checked} of "
            f"the check, {left} are left ({questions.source}); give more with --data"
        )


def prepare_bench(
    model: Path,
    questions: QuestionSet,
    *,
    task: str | None,
    prompts: int,
    new_tokens: int,
    device: str,
    console: Console,
) -> Bench:
    """Load a model and let it answer.

    Args:
        model: the merged folder.
        questions: all of them are tokenized; the first `prompts` are answered.
        task: the run's task, whose words are used; None for the plain reply format.
        prompts: how many questions are answered.
        new_tokens: longest reply, in tokens.
        device: "cpu" or "cuda".
        console: shows how far it is.

    Raises:
        UserError: the folder is no model, its chat template refuses our messages, or the temporary
            folder is too full for the logits that a file's are compared by.
    """
    with loading_model(console, str(model), None):
        reference = load_reference(model, device)
    require_free(
        Path(tempfile.gettempdir()),
        prompts * new_tokens * reference.vocabulary * FLOAT32_BYTES,
        "the comparison of logits",
        "set TMPDIR to a folder on another disk, or compare fewer (--prompts)",
    )
    asked = (*questions.texts, *AWKWARD)
    if reference.tokenizer.chat_template:
        chats = conversations(asked, task)
        texts, ids = reference.encode(chats)
    else:
        chats = []
        texts, ids = reference.encode_plain(asked)
    answered = ids[: min(prompts, len(questions.texts))]
    with Stage(console, "replies to compare with", total=len(answered), unit="replies") as stage:
        replies = reference.greedy(answered, new_tokens, stage.update)
    return Bench(reference, questions.source, chats, texts, ids, replies, new_tokens)
