"""Every checked-in configuration is one that a run would accept."""

from pathlib import Path

import pytest

from xmlgrpo_rewards.task import get_task
from xmlgrpo_rewards.total import load_rewards
from xmlgrpo_trainer.config.batch import check_groups
from xmlgrpo_trainer.config.library_fields import check_grpo, check_lora
from xmlgrpo_trainer.config.run_config import RunConfig, load_config
from xmlgrpo_trainer.plan.gpus import find_gpu
from xmlgrpo_trainer.plan.make import all_fields, make_plan
from xmlgrpo_trainer.plan.shapes import find_shape
from xmlgrpo_trainer.plan.workload import load_of

FOLDER = Path(__file__).parents[2] / "configs"
PATHS = sorted(FOLDER.glob("*.yaml"))
ON_A_GPU = [path for path in PATHS if not path.stem.startswith("tiny")]


@pytest.fixture(params=PATHS, ids=[path.stem for path in PATHS])
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture
def config(path: Path) -> RunConfig:
    return load_config(path)


def test_the_configurations_are_there() -> None:
    known = {"tiny", "gemma3-270m", "gemma3-1b", "gemma3-4b-qlora"}
    known |= {"qwen3-0.6b", "llama-3.2-1b", "smollm2-135m", "smollm2-360m"}
    assert known <= {path.stem for path in PATHS}


def test_the_first_line_is_the_command(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# make train")
    if path.stem != "tiny":  # the default needs no CONFIG
        assert f"CONFIG=configs/{path.name}" in first


def test_the_libraries_know_every_field(config: RunConfig) -> None:
    check_grpo(config.grpo)
    check_lora(config.lora)


def test_task_and_rewards_exist(config: RunConfig) -> None:
    assert get_task(config.task).name == config.task
    assert [reward.weight for reward in load_rewards(config.rewards, get_task(config.task))]


def test_the_batch_holds_whole_groups(config: RunConfig) -> None:
    check_groups(config.grpo)


def test_checkpoints_and_validations_meet(config: RunConfig) -> None:
    planned = load_of(config, all_fields(config), find_shape(config.model), None)
    assert config.grpo["save_steps"] % planned.reuse == 0
    assert config.holdout.every % config.grpo["save_steps"] == 0


@pytest.mark.parametrize("path", ON_A_GPU, ids=[path.stem for path in ON_A_GPU])
def test_a_gpu_run_is_whole_and_fits_where_it_says(path: Path) -> None:
    config = load_config(path)
    assert config.model.device == "cuda"
    assert config.data.source == "hub"
    assert config.data.revision is None, "the task pins the commit; two places would have to agree"
    assert get_task(config.task).dataset_revision
    plan = make_plan(config, find_gpu("RTX 4080"))
    assert plan.fits
    words = path.read_text(encoding="utf-8").replace("\n# ", " ")
    assert f"About {plan.peak.total:.0f} GiB by `make plan" in words


@pytest.mark.parametrize("path", ON_A_GPU, ids=[path.stem for path in ON_A_GPU])
def test_held_out_replies_are_a_small_part_of_a_gpu_run(path: Path) -> None:
    plan = make_plan(load_config(path), find_gpu("H100"))
    assert plan.pace is not None
    assert plan.pace.held_out_s is not None
    total_s = plan.pace.total_s(plan.load.steps)
    assert total_s is not None
    assert plan.pace.held_out_s < 0.2 * total_s
