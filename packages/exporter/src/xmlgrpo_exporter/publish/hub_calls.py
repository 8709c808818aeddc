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
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)

from xmlgrpo_exporter.publish.time_limits import (
    NO_ANSWER,
    PATIENCE,
    AskedToWaitError,
    NoAnswerError,
    wait_asked_for,
)
from xmlgrpo_rewards.console_script import HUB_TOKEN
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import one_line

T = TypeVar("T")

WAIT_S = 5.0
MESSAGE_COLUMNS = 300

# The HTTP library's own base error, whichever library the installed client uses (httpx in 1.x,
# httpx2 in 2.x): connections refused, reset and timed out.
NETWORK_ERROR: type[Exception] = HfHubHTTPError.__mro__[1]

# RuntimeError is what the client wraps a failed LFS upload in, ConnectionError what hf_xet raises
# beside its own errors; a JSON error is a proxy's HTML page where the Hub's answer was expected.
HUB_ERRORS: tuple[type[Exception], ...] = (
    *(NETWORK_ERROR, RuntimeError, ConnectionError, json.JSONDecodeError),
    *(AskedToWaitError, NoAnswerError),
    *(e for e in vars(hf_xet).values() if isinstance(e, type) and issubclass(e, Exception)),
)

# JSON that is not what the Hub answers: the client looks its keys up, and some of its values.
OTHER_ANSWERS: tuple[type[Exception], ...] = (LookupError, TypeError, AttributeError, ValueError)
ANY_FAILURE = HUB_ERRORS + OTHER_ANSWERS

# hf_xet asks by itself, and what it was answered stands only in the text of its error.
XET_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})\b")

NO_ROOM = "The Hub has no room for this: delete something there, or publish less (--what)"
GATED = (
    "The repository is gated: ask for access on its page, or use one that this token may write to"
)
TO_DO = {
    401: "The token is wrong or has expired: make a new one, then set HF_TOKEN or log in again",
    402: NO_ROOM,
    403: "The token may not do this: it needs write permission for this owner",
    404: "There is no such repository or branch, or the token may not see it",
    409: "Somebody else changed it meanwhile: look what happened, then run the command again",
    412: "Somebody else committed meanwhile: look what happened, then run the command again",
    413: "That is more than the Hub takes at once: publish less (--what)",
    507: NO_ROOM,
}
QUOTA = re.compile(r"quota|storage limit|limit reached|out of storage|no space|too large", re.I)


class NotAskedError(UserError):
    """The Hub could not be asked at all: no token, or no way there."""


def ask(
    doing: str,
    call: Callable[[], T],
    *,
    sent: bool = False,
    sending: bool = False,
    attempts: int = 2,
) -> T:
    """Call the Hub; once more a little later when it was overloaded or out of reach.

    Args:
        doing: what is being done, for the error: `creating the repository`.
        call: the request or requests; safe to repeat.
        sent: something has been sent there by now, and is kept.
        sending: the call itself sends what the Hub has to store.

    Raises:
        NotAskedError: there is no token, or the Hub cannot be reached.
        UserError: the Hub refuses, or failed each time.
    """
    for left in reversed(range(attempts)):
        try:
            with PATIENCE.lasting(sending=sending):
                return call()
        except OfflineModeIsEnabled:
            raise NotAskedError(
                f"{doing}: HF_HUB_OFFLINE is set, so nothing may be asked of the Hub; unset it"
            ) from None
        except LocalTokenNotFoundError:
            raise no_token() from None
        except ANY_FAILURE as error:
            status = status_of(error)
            if asked := next((e for e in _chain(error) if isinstance(e, AskedToWaitError)), None):
                raise UserError(
                    f"{doing}: the Hub answered {asked.status} and asks to wait "
                    f"{asked.seconds:,.0f} s, which is not waited for here. Run the same command "
                    "again then"
                ) from None
            if status is not None and status not in NO_ANSWER:
                raise _refused(doing, error, status) from error
            if not left:
                raise _failed(doing, error, status, attempts, sent=sent) from error
            wait_s = WAIT_S
            if WAIT_S and isinstance(error, HfHubHTTPError):
                wait_s = max(WAIT_S, wait_asked_for(error.response))
        time.sleep(wait_s)
    raise AssertionError("asked not even once")


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
        "no Hugging Face token: set HF_TOKEN in the environment or run "
        "`.venv/bin/hf auth login` (a token with write permission, from https://huggingface.co/settings/tokens)"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _may_be_xet(error: Exception) -> bool:
    """Whether the failure was in hf_xet, as far as can be seen: not in the client's own HTTP."""
    return not isinstance(error, (NETWORK_ERROR, *OTHER_ANSWERS))


def _failed(
    doing: str, error: Exception, status: int | None, attempts: int, *, sent: bool
) -> UserError:
    """The Hub was overloaded or out of reach, or something else answered in its place."""
    todo = f"{'Wait a little' if status else 'Look at the network'}, then "
    if status:
        happened = f"answered {status}"
    elif PATIENCE.ended:
        happened = "did not answer in time"
    elif isinstance(error, OTHER_ANSWERS):
        happened = "answered in another way than a Hub does"
        todo = "A proxy or a login page may stand in its place; look at the network, then "
    else:
        happened = "could not be reached or broke off"
    if sent:
        todo = "What was uploaded is kept there, and only the rest goes up: "
    todo += "run the same command again"
    if sent and _may_be_xet(error):
        todo += ". If it is always so with the contents of files, try HF_HUB_DISABLE_XET=1"
    kind = UserError if status else NotAskedError
    often = "once" if attempts == 1 else "twice"
    is_other_json = isinstance(error, OTHER_ANSWERS) and not isinstance(error, ValueError)
    message = PATIENCE.ended or ("JSON of another form" if is_other_json else _message_of(error))
    return kind(f"{doing}: the Hub {happened}, {often} ({message}). {todo}")


def _refused(doing: str, error: Exception, status: int) -> UserError:
    message = _message_of(error)
    todo = TO_DO.get(status, "Correct what it names, then run the command again")
    if any(isinstance(link, GatedRepoError) for link in _chain(error)):
        todo = GATED
    elif status in (400, 403) and QUOTA.search(message):
        todo = NO_ROOM
    if _may_be_xet(error):
        todo += ". A hub without Xet, or a network that blocks it, needs HF_HUB_DISABLE_XET=1"
    return UserError(f"{doing}: the Hub refused with {status} ({message}). {todo}")


def _message_of(error: Exception) -> str:
    """The innermost message on one line; a token that a server echoes is not repeated."""
    answer = next((link for link in _chain(error) if isinstance(link, HfHubHTTPError)), None)
    message = (answer and answer.server_message) or str(answer or error)
    line = HUB_TOKEN.sub("hf_...", message)
    return one_line(line, MESSAGE_COLUMNS) or type(error).__name__
