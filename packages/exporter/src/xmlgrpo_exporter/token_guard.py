"""A token comes from `HF_TOKEN` or the Hub login, and goes nowhere but into the request header.

On a command line it would be in the process list, the shell's history and a tracker's run file;
in a published file it would be public.  So both are looked for, and neither message repeats it.
"""

import os
import re
from collections.abc import Sequence

from xmlgrpo_rewards.errors import UserError

TOKEN = re.compile(rb"hf_[A-Za-z0-9]{20,}")
SECRET_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")


def refuse_tokens(argv: Sequence[str]) -> None:
    """Stop when an argument holds a Hub token, before anything can store the arguments.

    Raises:
        UserError: one does.
    """
    for position, argument in enumerate(argv):
        if TOKEN.search(argument.encode("utf-8", "surrogateescape")):
            raise UserError(
                f"argument {position} holds a Hugging Face token (hf_…). It is now in your shell's "
                "history: revoke it at https://huggingface.co/settings/tokens, make a new one and "
                "give it as HF_TOKEN in the environment or through `hf auth login`"
            )


def secrets_at_hand(hub_token: str | None) -> tuple[bytes, ...]:
    """The secret values that this process can see: the Hub's token and those of `SECRET_VARIABLES`.

    Values under eight characters are left out: they would be found everywhere by chance.
    """
    values = [hub_token or "", *(os.environ.get(name, "") for name in SECRET_VARIABLES)]
    return tuple(sorted({value.encode() for value in values if len(value) >= 8}))


class SecretSearch:
    """Looks for secrets in a file that is read in pieces.

    Args:
        secrets: values to look for, besides anything that has the form of a Hub token.
    """

    OVERLAP = 512  # longer than any token, so that one cut by a piece's end is still seen

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = tuple(secrets)
        self._tail = b""
        self.found = False

    def feed(self, piece: bytes) -> None:
        """Look through the next piece."""
        window = self._tail + piece
        self.found = (
            self.found
            or TOKEN.search(window) is not None
            or any(secret in window for secret in self._secrets)
        )
        self._tail = window[-self.OVERLAP :]
