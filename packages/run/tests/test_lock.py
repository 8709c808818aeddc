"""One writer at a time, and the next one after it; is there room for what it writes."""

import multiprocessing
import shutil
import threading

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.disk import refuse_if_full, require_free
from xmlgrpo_run.lock import LOCK, one_writer


def test_a_second_writer_is_refused_and_the_next_one_is_not(tmp_path):
    lock = tmp_path / "gguf" / LOCK
    with (
        one_writer(lock, ""),
        pytest.raises(UserError, match=r"^another export$"),
        one_writer(lock, "another export"),
    ):
        pass
    with one_writer(lock, ""):
        pass


def test_the_written_file_may_be_the_lock_and_keeps_what_it_holds(tmp_path):
    journal = tmp_path / "tuned.replies.jsonl"
    journal.write_text("a\n")
    with one_writer(journal, ""), journal.open("a") as lines:
        lines.write("b\n")
    assert journal.read_text() == "a\nb\n"


def test_a_writer_that_waits_is_next(tmp_path):
    lock, waits, order = tmp_path / LOCK, threading.Event(), []

    def second() -> None:
        with one_writer(lock, "", on_wait=waits.set):
            order.append("second")

    thread = threading.Thread(target=second)
    with one_writer(lock, ""):
        thread.start()
        assert waits.wait(30)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def _die_with_it(lock, has_it) -> None:
    with one_writer(lock, ""):
        has_it.set()
        threading.Event().wait()


def test_a_killed_process_has_the_lock_no_more(tmp_path):
    context = multiprocessing.get_context("fork")
    has_it = context.Event()
    process = context.Process(target=_die_with_it, args=(tmp_path / LOCK, has_it), daemon=True)
    process.start()
    assert has_it.wait(30)
    with pytest.raises(UserError), one_writer(tmp_path / LOCK, "busy"):
        pass
    process.kill()
    process.join()
    with one_writer(tmp_path / LOCK, ""):
        pass


def test_a_folder_that_was_removed_meanwhile_is_locked_anew(tmp_path):
    lock = tmp_path / "run" / LOCK
    with one_writer(lock, ""):
        shutil.rmtree(lock.parent)  # as a refused training takes its new folder away
        with one_writer(lock, ""), pytest.raises(UserError), one_writer(lock, "busy"):
            pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write into .*file: .*; name a writable folder"),
        one_writer(tmp_path / "file" / LOCK, ""),
    ):
        pass


def test_no_room_is_an_error_before_the_work(tmp_path):
    with pytest.raises(
        UserError, match=r"the merged model: expected about 1048576\.1 GiB free in .*, got "
    ):
        require_free(tmp_path / "not" / "yet", 1 << 50, "the merged model")


def test_what_fails_on_a_full_disk_names_the_disk(tmp_path, monkeypatch):
    refuse_if_full(tmp_path, "q8_0")
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: full)
    with pytest.raises(UserError, match=r"q8_0 could not be written: the disk of .* is full"):
        refuse_if_full(tmp_path, "q8_0")
