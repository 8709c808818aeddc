"""A digest of weights tells other weights apart, and the same ones never."""

import pytest

from xmlgrpo_run.weights_digest import SAMPLED_BYTES, weights_digest, weights_of

SIZE = 3 * SAMPLED_BYTES


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda file: file.write_bytes(b"\1" + bytes(SIZE - 1)), id="first-byte"),
        pytest.param(lambda file: file.write_bytes(bytes(SIZE - 1) + b"\1"), id="last-byte"),
        pytest.param(lambda file: file.write_bytes(bytes(SIZE + 1)), id="one-byte-more"),
        pytest.param(lambda file: file.write_bytes(b""), id="emptied"),
        pytest.param(lambda file: file.rename(file.with_name("b.safetensors")), id="name"),
    ],
)
def test_other_weights_have_another_digest(tmp_path, changed):
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(SIZE))
    before = weights_digest(weights_of(tmp_path))
    assert weights_digest(weights_of(tmp_path)) == before
    changed(file)
    assert weights_digest(weights_of(tmp_path)) != before


def test_a_file_is_its_own_weights_and_a_folders_other_files_are_none(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "config.json").write_text("{}")
    assert weights_of(tmp_path / "model.gguf") == [tmp_path / "model.gguf"]
    assert weights_of(tmp_path) == []
    assert weights_of(tmp_path / "absent") == []
    assert weights_digest([]) is None
