"""What every GGUF of one model is held against: prompts, ids, and the model's own replies."""

from dataclasses import dataclass
from pathlib import Path

from xmlgrpo_exporter.conversations import conversations
from xmlgrpo_exporter.questions import AWKWARD, QuestionSet
from xmlgrpo_exporter.reference import Reference, load_reference
from xmlgrpo_rewards.errors import UserError

CALIBRATION_PROMPTS = 128
LEAST_CALIBRATION = 8

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Bench:
    """Prompts, and what the merged model makes of them.

    Attributes:
        reference: the merged model.
        source: where the questions came from, in words.
        chats: the prompts as messages: every question, then the awkward texts.
        texts: the same as the model's own template renders them.
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
    def template(self) -> str:
        """The chat template the model was trained with."""
        return str(self.reference.tokenizer.chat_template)

    def spare(self) -> list[list[int]]:
        """Prompts that no gate looks at, to calibrate with.

        Raises:
            UserError: too few questions are left over.
        """
        left = self.ids[len(self.replies) : len(self.ids) - len(AWKWARD)][:CALIBRATION_PROMPTS]
        if len(left) < LEAST_CALIBRATION:
            raise UserError(
                f"an importance matrix needs {LEAST_CALIBRATION} questions besides the "
                f"{len(self.replies)} of the check, {len(left)} are left ({self.source}); give "
                "more with --data"
            )
        return left


def prepare_bench(
    model: Path,
    questions: QuestionSet,
    *,
    task: str | None,
    prompts: int,
    new_tokens: int,
    device: str,
) -> Bench:
    """Load a model and let it answer.

    Args:
        model: the merged folder.
        questions: all of them are tokenized; the first `prompts` are answered.
        task: the run's task, whose words are used; None for the plain reply format.
        prompts: how many questions are answered.
        new_tokens: longest reply, in tokens.
        device: "cpu" or "cuda".

    Raises:
        UserError: the folder is no model, or its tokenizer has no chat template.
    """
    reference = load_reference(model, device)
    chats = conversations((*questions.texts, *AWKWARD), task)
    texts, ids = reference.encode(chats)
    replies = reference.greedy(ids[: min(prompts, len(questions.texts))], new_tokens)
    return Bench(reference, questions.source, chats, texts, ids, replies, new_tokens)
