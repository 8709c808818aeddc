"""Questions as the chats that training used."""

from collections.abc import Iterable

from xmlgrpo_rewards import reply


def conversations(questions: Iterable[str], task: str | None) -> list[list[dict[str, str]]]:
    """One chat a question, in the words of the run's task; of the plain format without a run.

    Raises:
        UserError: the run's task is not installed.
    """
    if task is None:
        return [reply.messages(question) for question in questions]
    from xmlgrpo_rewards.task import get_task

    messages = get_task(task).messages
    return [messages(question) for question in questions]
