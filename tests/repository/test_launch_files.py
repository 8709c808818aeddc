"""The launch files for several GPUs and machines, read by the tools that they are for."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from xmlgrpo_trainer.cli import parser
from xmlgrpo_trainer.config.batch import shared
from xmlgrpo_trainer.config.library_fields import check_grpo
from xmlgrpo_trainer.config.run_config import grpo_fields, load_config

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILES = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
SLURM = ROOT / "configs" / "slurm" / "train.sbatch"
SCALE_OUT = (ROOT / "docs" / "scale-out.md").read_text(encoding="utf-8")
BASH = shutil.which("bash") or "bash"


def launches(text: str) -> list[list[str]]:
    """The words of every `accelerate launch` in a text, its line continuations joined."""
    joined = text.replace("\\\n", " ")
    return [line.split() for line in re.findall(r"accelerate launch (--config_file .*)", joined)]


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_file_leaves_precision_to_the_run(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.distributed_type == "MULTI_GPU"
    assert config.mixed_precision == "no"
    assert not config.use_cpu


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=source)
        for source, text in [
            *((path.name, path.read_text(encoding="utf-8")) for path in LAUNCH_FILES),
            ("scale-out.md", SCALE_OUT),
        ]
        for words in launches(text)
    ],
)
def test_commands_are_ones_that_accelerate_and_we_understand(words: list[str]) -> None:
    launched = launch_command_parser().parse_args(words)
    assert (ROOT / launched.config_file).is_file()
    assert launched.module
    assert launched.training_script == "xmlgrpo_trainer.cli"
    ours = parser().parse_args(launched.training_script_args)
    assert (ROOT / ours.config).is_file()


@pytest.mark.parametrize("processes", [2, 4, 8])
@pytest.mark.parametrize("name", ["gemma3-1b", "gemma3-4b-qlora", "tiny"])
def test_every_configuration_can_be_shared(name: str, processes: int) -> None:
    fields = grpo_fields(load_config(ROOT / "configs" / f"{name}.yaml"))
    own = shared(fields, processes)
    whole = fields["per_device_train_batch_size"] * fields.get("gradient_accumulation_steps", 1)
    part = own["per_device_train_batch_size"] * own["gradient_accumulation_steps"]
    assert part * processes == whole


def test_the_fields_of_vllm_s_server_pass() -> None:
    found = dict(re.findall(r"grpo\.(vllm_\w+)=(\S+?)[\"\s]", SCALE_OUT))
    assert found["vllm_mode"] == "server"
    check_grpo({name: int(value) if value.isdigit() else value for name, value in found.items()})


def test_the_slurm_script_starts_one_launcher_a_node(tmp_path: Path) -> None:
    """Bash runs it, with stand-ins for SLURM's commands and for accelerate."""
    for name, body in {
        "scontrol": "printf 'node-a\\nnode-b\\n'",
        "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
        "accelerate": 'printf "%s|" "$@"; echo',
    }.items():
        place = tmp_path / (".venv/bin" if name == "accelerate" else "bin") / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"#!{BASH}\n{body}\n", encoding="utf-8")
        place.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "SLURM_JOB_ID": "7",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
    }
    ran = subprocess.run(
        [BASH, str(SLURM), "configs/tiny.yaml", "a run", "lora.target_modules=[q_proj, v_proj]"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.rstrip("|").split("|") for line in ran.stdout.splitlines()]
    assert len(lines) == 2
    for rank, words in enumerate(lines):
        launched = launch_command_parser().parse_args(words[1:])
        assert (launched.machine_rank, launched.num_machines) == (rank, 2)
        assert (launched.num_processes, launched.main_process_ip) == (8, "node-a")
        ours = parser().parse_args(launched.training_script_args)
        assert (ours.run, ours.overrides) == ("a run", ["lora.target_modules=[q_proj, v_proj]"])


def test_the_slurm_script_says_what_it_needs() -> None:
    ran = subprocess.run([BASH, str(SLURM)], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "expected a configuration and a run" in ran.stderr
