"""`xmlgrpo-train` as a person types it: light help, and one clear line for what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = "('torch', 'transformers', 'trl', 'peft', 'datasets', 'matplotlib', 'pydantic')"


def python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("module", ["cli", "ask.command", "plan.command", "doctor.command"])
def test_help_loads_nothing_heavy(module: str) -> None:
    code = (
        f"import sys; from xmlgrpo_trainer.{module} import main\n"
        "sys.argv[1:] = ['--help']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        f"print('loaded:', [m for m in {HEAVY} if m in sys.modules])"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "usage: xmlgrpo-" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded: []"


HEAVY_LIBRARIES = {
    "accelerate",
    "datasets",
    "huggingface_hub",
    "matplotlib",
    "pandas",
    "peft",
    "scipy",
    "sklearn",
    "sympy",
    "torch",
    "transformers",
    "trl",
}


def imported_by(command: str, *arguments: str) -> set[str]:
    """The heavy libraries that a command imports, whatever it ends with."""
    code = (
        f"import sys; from xmlgrpo_trainer.{command} import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.stdout.write('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    done = python(code, *arguments)
    assert "Traceback" not in done.stderr
    return HEAVY_LIBRARIES & set(done.stdout.splitlines()[-1].split())


TINY = ["--config", "configs/tiny.yaml"]
FEW = ["data.source=json", "data.path=packages/rewards/tests/fixtures/gsm8k.jsonl"]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        pytest.param("plan.command", TINY, id="plan"),
        pytest.param(
            "plan.command", [*TINY, "--json", "model.device=auto", "--gpu", "T4"], id="gpu"
        ),
        pytest.param("plan.command", [*TINY, "grpo.max_step=3"], id="plan-typo"),
        pytest.param("cli", [*TINY, "grpo.max_step=3"], id="typo"),
        pytest.param("cli", [*TINY, "lora.rank=3"], id="typo-lora"),
        pytest.param("cli", [*TINY, "--gpus", "2", "grpo.beta=x"], id="type-on-two-gpus"),
        pytest.param("cli", [*TINY, "task=sql9"], id="task"),
        pytest.param("cli", [*TINY, "--run", "of-few-rows", *FEW], id="few-rows"),
    ],
)
def test_what_needs_no_library_imports_none(command: str, arguments: list[str]) -> None:
    assert imported_by(command, *arguments) == set()


def test_the_doctor_imports_no_more_than_it_looks_at() -> None:
    assert imported_by("doctor.command") <= {"torch", "huggingface_hub"}


def test_preparing_a_run_imports_nothing_that_unsloth_patches() -> None:
    code = (
        "import sys; import xmlgrpo_trainer.train\n"
        "print([m for m in ('trl', 'transformers', 'peft') if m in sys.modules])"
    )
    assert python(code).stdout.strip() == "[]"


def train(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return python("from xmlgrpo_trainer.cli import main; main()", *arguments)


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        pytest.param("modle: {}", [], "unknown key 'modle'; did you mean 'model'?", id="key"),
        pytest.param("seed: '1'", [], "seed: input should be a valid integer", id="type"),
        pytest.param("seed: [", [], "not valid YAML", id="yaml"),
        pytest.param("- 1", [], "expected keys and values, got list", id="list"),
        pytest.param("{}", ["seed"], "expected an override like", id="override"),
        pytest.param("{}", ["data.source=json"], "data.path must name", id="combination"),
        pytest.param(
            "{}", ["grpo.num_generations=3"], "not a multiple of num_generations = 3", id="groups"
        ),
        pytest.param("{}", ["rewards={}"], "name at least one reward function", id="no-reward"),
        pytest.param("task: sql9", [], "no task is named 'sql9'", id="task"),
        pytest.param(
            "{}", ["grpo.max_step=3"], "grpo.max_step is not a field of GRPOConfig", id="grpo"
        ),
        pytest.param("{}", ["lora.r=x"], "lora.r: input should be a valid integer", id="lora"),
        pytest.param("{}", ["--gpus", "0"], "at least 1, got '0'", id="no-gpu"),
        pytest.param(
            "{}", ["--gpus", "two"], "--gpus: expected a whole number of at least 1", id="gpus"
        ),
        pytest.param("{}", ["--seed", "ABC"], "to 4,294,967,295, got 'ABC'", id="seed"),
        pytest.param("{}", ["--gpus", "3"], "8 completions", id="a-batch-that-three-cannot-share"),
        pytest.param(
            "model: {backend: unsloth}",
            ["--gpus", "2"],
            "'unsloth', which trains on one GPU, but 2 processes were asked for",
            id="unsloth-on-two",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, text: str, overrides: list[str], words: str
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(text)
    done = train("--config", str(config), "--run", str(tmp_path / "out" / "run"), *overrides)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not (tmp_path / "out").exists()


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    done = train("--config", str(tmp_path / "none.yaml"))
    assert (done.returncode, "none.yaml" in done.stderr) == (2, True)
