"""The client's lines about a Hub that does not answer."""

import logging
from collections.abc import Iterator

import pytest

from xmlgrpo_run.screen.console import HUB_CLIENT, HUB_WAITING, quiet_retries


@pytest.fixture
def client() -> Iterator[logging.Logger]:
    """The client's logger without filters before the test."""
    log = logging.getLogger(HUB_CLIENT)
    before = log.filters[:]
    log.filters.clear()
    yield log
    log.filters[:] = before


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_hub_that_cannot_be_reached_is_one_line(
    client: logging.Logger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # as other tests set it
    from huggingface_hub.utils import http_backoff  # type: ignore[attr-defined]  # no __all__ there

    quiet_retries()
    quiet_retries()  # a second time changes nothing
    with pytest.raises(Exception, match="refused"):
        http_backoff("HEAD", "http://127.0.0.1:9/", max_retries=3, base_wait_time=0)
    client.warning("Rate limited. Waiting %ss before retry.", 3)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [HUB_WAITING, "Rate limited. Waiting 3s before retry."]
