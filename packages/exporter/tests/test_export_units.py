"""A model folder without a weight is none."""

import pytest
from safetensors.numpy import save_file

from xmlgrpo_exporter.model import stored_weights
from xmlgrpo_rewards.errors import UserError


def test_folder_without_a_weight_is_refused(tmp_path):
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="there is no weight"):
        stored_weights(tmp_path)
