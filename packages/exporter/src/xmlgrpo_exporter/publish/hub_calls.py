"""One way to ask the Hub: retried once, and every failure in words that say what to do.

The client retries uploads of file contents by itself, but not the requests around them (who am I,
create, commit, tag).  All of them can be asked again without harm: what is there already is left.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import hf_xet  # type: ignore[import-untyped]  # native, without types
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from xmlgrpo_rewards.console_script import HUB_TOKEN
from xmlgrpo_rewards.errors import UserError

T = TypeVar("T")

WAIT_S = 5.0
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})

# The HTTP library's own base error, whichever library the installed client uses (httpx in 1.x,
# httpx2 in 2.x): connections refused, reset and timed out.
NETWORK_ERROR: type[Exception] = HfHubHTTPError.__mro__[1]

# RuntimeError is what the client wraps a failed LFS upload in, ConnectionError what hf_xet raises
# beside its own errors; a JSON error is a proxy's HTML page where the Hub's answer was expected.
HUB_ERRORS: tuple[type[Exception], ...] = (
    *(NETWORK_ERROR, RuntimeError, ConnectionError, json.JSONDecodeError),
    *(e for e in vars(hf_xet).values() if isinstance(e, type) and issubclass(e, Exception)),
)

# hf_xet asks by itself, and what it was answered stands only in the text of its error.
XET_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})\b")

TO_DO = {
    401: "The token is wrong or has expired: make a new one, then set HF_TOKEN or log in again",
    403: "The token may not do this: it needs write permission for this owner",
    404: "There is no such repository or branch, or the token may not see it",
    409: "Somebody else changed it meanwhile: look what happened, then run the command again",
    412: "Somebody else committed meanwhile: look what happened, then run the command again",
    413: "The Hub has no room for this: delete something there, or publish less (--what)",
    507: "The Hub has no room for this: delete something there, or publish less (--what)",
}


class NotAskedError(UserError):
    """The Hub could not be asked at all: no token, or no way there."""


def ask(doing: str, call: Callable[[], T], *, sent: bool = False, attempts: int = 2) -> T:
    """Call the Hub; once more after `WAIT_S` seconds when it was overloaded or out of reach.

    Args:
        doing: what is being done, for the error: `creating the repository`.
        call: the request or requests; safe to repeat.
        sent: something has been sent there by now, and is kept.
        attempts: how often it may be asked.

    Raises:
        NotAskedError: there is no token, or the Hub cannot be reached.
        UserError: the Hub refuses, or failed each time.
    """
    try:
        return call()
    except OfflineModeIsEnabled:
        raise NotAskedError(
            f"{doing}: HF_HUB_OFFLINE is set, so nothing may be asked of the Hub; unset it"
        ) from None
    except LocalTokenNotFoundError:
        raise no_token() from None
    except HUB_ERRORS as error:
        status = status_of(error)
        if status is not None and status not in TRANSIENT:
            raise _refused(doing, error, status) from error
        if attempts == 1:
            raise _failed(doing, error, status, sent=sent) from error
    time.sleep(WAIT_S)
    return ask(doing, call, sent=sent, attempts=attempts - 1)


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error of the client; None without an answer."""
    for link in _chain(error):
        if isinstance(link, HfHubHTTPError):
            return int(link.response.status_code)
        if answered := XET_STATUS.search(str(link)):
            return int(answered[1])
    return None


def no_token() -> NotAskedError:
    """There is no token to publish with."""
    return NotAskedError(
        "no Hugging Face token: set HF_TOKEN in the environment or run `hf auth login` (a token "
        "with write permission, from https://huggingface.co/settings/tokens)"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _may_be_xet(error: Exception) -> bool:
    """Whether the failure was in hf_xet, as far as can be seen: not in the client's own HTTP."""
    return not isinstance(error, NETWORK_ERROR | json.JSONDecodeError)


def _failed(doing: str, error: Exception, status: int | None, *, sent: bool) -> UserError:
    """The Hub was overloaded or out of reach."""
    happened = f"answered {status}" if status else "could not be reached or broke off"
    todo = f"{'Wait a little' if status else 'Look at the network'}, then "
    if sent:
        todo = "What was uploaded is kept there, and only the rest goes up: "
    todo += "run the same command again"
    if sent and _may_be_xet(error):
        todo += ". If it is always so with the contents of files, try HF_HUB_DISABLE_XET=1"
    kind = UserError if status else NotAskedError
    return kind(f"{doing}: the Hub {happened}, twice ({_message_of(error)}). {todo}")


def _refused(doing: str, error: Exception, status: int) -> UserError:
    todo = TO_DO.get(status, "Correct what it names, then run the command again")
    if _may_be_xet(error):
        todo += ". A hub without Xet, or a network that blocks it, needs HF_HUB_DISABLE_XET=1"
    return UserError(f"{doing}: the Hub refused with {status} ({_message_of(error)}). {todo}")


def _message_of(error: Exception) -> str:
    """The innermost message on one line; a token that a server echoes is not repeated."""
    answer = next((link for link in _chain(error) if isinstance(link, HfHubHTTPError)), None)
    message = (answer and answer.server_message) or str(answer or error)
    line = re.sub(r"\s+", " ", message).strip()[:300]
    return HUB_TOKEN.sub("hf_...", line) or type(error).__name__
