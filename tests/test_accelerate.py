"""The launch files under configs/accelerate/, read by accelerate itself."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

FOLDER = Path(__file__).resolve().parent.parent / "configs" / "accelerate"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_launch_file_leaves_precision_to_the_run(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.distributed_type == "MULTI_GPU"
    assert config.mixed_precision == "no"
    assert not config.use_cpu
    assert path.read_text(encoding="utf-8").startswith("# make train GPUS=")
