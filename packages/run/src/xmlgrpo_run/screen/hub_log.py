"""What the Hub's client logs while it cannot reach the Hub: one line, not two for each try."""

import logging

CLIENT = "huggingface_hub.utils._http"
WAITING = "the Hub does not answer; it is asked again, for up to half a minute"


class _OneLine(logging.Filter):
    """Lets the first line about a failed request through, in words, and drops those that follow."""

    def __init__(self) -> None:
        super().__init__()
        self._told = False

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "thrown while requesting" not in text and "Retrying in" not in text:
            return True
        if self._told:
            return False
        self._told = True
        record.msg, record.args = WAITING, ()
        return True


def quiet_retries() -> None:
    """From now on the client tells of failed requests once; the error at the end is unchanged."""
    log = logging.getLogger(CLIENT)
    if not any(isinstance(known, _OneLine) for known in log.filters):
        log.addFilter(_OneLine())
