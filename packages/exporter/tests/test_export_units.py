"""Which bytes, is there room, is anybody else writing."""

import shutil

import pytest
from safetensors.numpy import save_file

from xmlgrpo_exporter.merge.stored_weights import weights_of
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.disk import refuse_if_full, require_free
from xmlgrpo_run.fingerprint import fingerprint
from xmlgrpo_run.lock import hold


def test_fingerprint_follows_weights_and_tokenizer_only(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("words")
    assert fingerprint(tmp_path) == before
    (tmp_path / "tokenizer.json").write_text("{}")
    assert fingerprint(tmp_path) != before


def test_no_room_is_said_before_the_work(tmp_path):
    with pytest.raises(UserError, match=r"needs about 1048576\.1 GiB"):
        require_free(tmp_path / "not" / "yet", 1 << 50, "the merged model")


def test_what_fails_on_a_full_disk_is_told_so(tmp_path, monkeypatch):
    refuse_if_full(tmp_path, "q8_0")
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: full)
    with pytest.raises(UserError, match=r"q8_0 could not be written: the disk of .* is full"):
        refuse_if_full(tmp_path, "q8_0")


def test_one_writer_at_a_time_and_the_next_one_after_it(tmp_path):
    lock = tmp_path / "gguf" / ".lock"
    with hold(lock), pytest.raises(UserError, match="another export is writing"), hold(lock):
        pass
    with hold(lock):
        pass


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="give a writable folder"), hold(tmp_path / "file" / "x"):
        pass


def test_folder_without_a_weight_is_refused(tmp_path):
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="there is no weight"):
        weights_of(tmp_path)
