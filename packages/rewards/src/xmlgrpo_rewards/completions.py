"""What trl hands a reward function as a completion, and the text in it."""

from collections.abc import Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]
Completion = str | Sequence[Message]


def completion_text(completion: object, position: int = 0) -> str:
    """The text of one completion: itself, or what the last message of the assistant says.

    A list without such a message, or a message whose content is None (tool calls only), is "".
    Content in parts gives its text parts, joined.

    Raises:
        TypeError: `completion` (number `position` of the batch) is none of these.
    """
    if isinstance(completion, str):
        return completion
    if not isinstance(completion, list | tuple):
        raise TypeError(_not_a_completion(completion, position))
    said: object = ""
    for message in completion:
        if not isinstance(message, Mapping):
            raise TypeError(_not_a_completion(message, position))
        if message.get("role", "assistant") == "assistant":
            said = message.get("content")
    return _content_text(said, position)


def _content_text(content: object, position: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        return "".join(str(part.get("text") or "") for part in content)
    raise TypeError(_not_a_completion(content, position))


def _not_a_completion(found: object, position: int) -> str:
    return (
        f"completion {position}: expected a text or a list of messages, "
        f"got {type(found).__name__}: {repr(found)[:80]}"
    )
