"""Room for the checkpoints."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.run_config import check_config
from xmlgrpo_trainer.run.disk import check_room, foreseen_weights


def test_a_run_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    arguments = SimpleNamespace(save_total_limit=2)
    check_room(tmp_path, arguments, 0)
    with pytest.raises(UserError, match=r"need about 1\d{6}\.\d\d GiB; free some space"):
        check_room(tmp_path, arguments, 30 * 2**40)  # 3 checkpoints x 12 bytes x 30 Ti weights


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        pytest.param(
            # 26 layers x r 8 x (in + out) of: q 1152 + 1024, k and v 1152 + 256 each, o 1024 + 1152
            # and gate, up, down 1152 + 6912 each
            {"model": {"name": "google/gemma-3-1b-it"}, "lora": {"r": 8}},
            26 * 8 * (2 * 2176 + 2 * 1408 + 3 * 8064),
            id="gemma-3-1b",
        ),
        pytest.param(
            {
                "model": {"name": "google/gemma-3-1b-it"},
                "lora": {"r": 8, "target_modules": ["q_proj"]},
            },
            26 * 8 * 2176,
            id="one-module",
        ),
        pytest.param({"model": {"name": "me/something-else"}}, 0, id="not-known-before-loading"),
    ],
)
def test_the_adapter_is_counted_before_the_model_is_there(
    sections: dict[str, object], expected: int
) -> None:
    assert (
        foreseen_weights(check_config({**sections, "data": {"source": "hub"}}, "test")) == expected
    )
