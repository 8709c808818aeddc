"""A token comes from `HF_TOKEN` or the Hub login, and goes nowhere but into the request header.

In a published file it would be public, so every file is searched before it goes up.
"""

import os
import re
from collections.abc import Sequence

from xmlgrpo_rewards.errors import HUB_TOKEN

TOKEN = re.compile(HUB_TOKEN.pattern.encode())
SECRET_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")


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
