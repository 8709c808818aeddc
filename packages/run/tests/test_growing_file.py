"""A file's growth as a bar: the first byte begins the pace."""

import time

from rich.console import Console

from xmlgrpo_run.screen.growing_file import growing


def test_what_comes_before_the_first_byte_does_not_slow_the_pace(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shown = growing(Console(quiet=True), "converting", 100_000_000, tmp_path.iterdir)
    now[0] += 3600  # reading, computing
    assert shown.figures() == "0.0/100.0 MB  1:00:00"
    path = tmp_path / "file"
    for size, after_s, figures in [
        (2_000, 1, "0.0/100.0 MB  0:00:00"),
        (20_000_000, 2, "20.0/100.0 MB  10.0 MB/s  left 0:00:08"),
        (50_000_000, 3, "50.0/100.0 MB  10.0 MB/s  left 0:00:05"),
        (120_000_000, 5, "100.0/100.0 MB  10.0 MB/s  left 0:00:00"),
    ]:
        now[0] += after_s
        with path.open("ab") as file:
            file.truncate(size)
        assert shown.figures() == figures
