"""The manifest names the very adapter that its results are of."""

from hashlib import sha256

from xmlgrpo_trainer.finish import adapter_hashes


def test_the_adapters_weights_and_settings_are_hashed(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"low rank")
    (tmp_path / "adapter_config.json").write_bytes(b'{"lora_alpha": 16}')
    assert adapter_hashes(tmp_path) == {
        "adapter_sha256": sha256(b"low rank").hexdigest(),
        "adapter_config_sha256": sha256(b'{"lora_alpha": 16}').hexdigest(),
    }
