"""A token in the environment is found nowhere in what the commands write, print or publish."""

import base64
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from hub_server import serve

ROOT = Path(__file__).resolve().parents[2]
HUB_CANARY = "hf_" + "CanaryThatMustNotLeak0000000000000"
WANDB_CANARY = "c0ffee" * 6 + "c0ff"

COMMANDS = (
    *("xmlgrpo_rewards.commands.validate", "xmlgrpo_exporter.cli", "xmlgrpo_evaluator.cli"),
    *("xmlgrpo_viewer.page.command", "xmlgrpo_trainer.cli", "xmlgrpo_trainer.ask.command"),
    *("xmlgrpo_trainer.plan.command", "xmlgrpo_trainer.doctor.command"),
)

OVERRIDES = (
    *(
        "grpo.max_steps=2",
        "grpo.save_steps=1",
        "holdout.report_rows=8",
        "holdout.validation_rows=8",
    ),
    *("model.tiny.warm_steps=20", "model.tiny.hidden_size=64", "model.tiny.head_dim=16"),
    *("model.tiny.mlp_size=192", "grpo.max_completion_length=24", "lora.r=4"),
    *("data.generated_rows=32", "watch.wandb=offline"),
)


def leaks(folder: Path, canaries: Iterable[str]) -> list[Path]:
    """The files below a folder that hold a canary, in the clear or as base64 would have it."""
    wanted = [form for canary in canaries for form in (canary.encode(), *base64_forms(canary))]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(form in path.read_bytes() for form in wanted)]


def base64_forms(text: str) -> list[bytes]:
    """What base64 of anything around the text contains, at each of the three alignments."""
    return [base64.b64encode(b"\0" * pad + text.encode())[4 if pad else 0 : -4] for pad in range(3)]


def in_use(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test of what the commands left behind."""
    slow = pytest.mark.slow(pytest.mark.allow_hosts(["127.0.0.1"])(test))
    marked: Callable[..., None] = pytest.mark.timeout(1800)(slow)  # three commands, a busy machine
    return marked


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a tiny run that was trained, evaluated and published, with all it left there."""
    home = tmp_path_factory.mktemp("home")
    run, printed = home / "run", []
    (home / "tmp").mkdir()
    with serve({HUB_CANARY: ("alice", "write")}) as hub:
        inherited = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
        environment = inherited | {
            "HF_TOKEN": HUB_CANARY,
            "WANDB_API_KEY": WANDB_CANARY,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(home / "hf"),
            "TMPDIR": str(home / "tmp"),
            "WANDB_DIR": str(home / "wandb"),
            "WANDB_CACHE_DIR": str(home / "wcache"),
        }
        for module, *words in (
            ("xmlgrpo_trainer.cli", "--config", "configs/tiny.yaml", *OVERRIDES),
            ("xmlgrpo_evaluator.cli", "run", "--limit", "4", "--quiet"),
            ("xmlgrpo_exporter.cli", "push", "--repo", "alice/tiny"),
        ):
            main = f"from {module} import main; main()"
            done = subprocess.run(
                [sys.executable, "-c", main, *words, "--run", str(run)],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr.decode()[-2000:]
            printed.append(done.stdout + done.stderr)
        assert any(request.authorization == f"Bearer {HUB_CANARY}" for request in hub.requests)
        (home / "printed").write_bytes(b"".join(printed))
        (home / "sent").write_bytes(b"".join(request.body for request in hub.requests))
        published = [blob.content for blob in hub.repos["alice/tiny"].tree().values()]
        (home / "published").write_bytes(b"".join(published))
    return home


@in_use
def test_canaries_are_in_no_file_and_no_line_of_training_evaluating_and_publishing(
    used: Path,
) -> None:
    names = {path.name for path in used.rglob("*")}
    # what is searched is really there: pickles, wandb's own file, results, what was published
    assert {"training_args.bin", "optimizer.pt", "manifest.json", "metrics.jsonl"} <= names
    assert {"compare-n4.json", "pushed.json"} <= names
    assert any(name.endswith(".wandb") for name in names)
    assert leaks(used, (HUB_CANARY, WANDB_CANARY)) == []


@in_use
@pytest.mark.parametrize("label", ["base", "tuned"])
def test_the_tiny_model_is_evaluated_by_the_graph_engine(used: Path, label: str) -> None:
    """The trainer makes its config, which must not send the evaluator to `generate`."""
    result = json.loads((used / "run" / "eval" / f"{label}-n4.json").read_text(encoding="utf-8"))
    assert result["engines"]["answered"] == ["graph"], result["engines"]["why"]


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(lambda token: pickle.dumps({"hub_token": token}), id="pickle"),
        pytest.param(lambda token: json.dumps({"args": ["--token", token]}).encode(), id="json"),
        pytest.param(lambda token: b"\0" * 4097 + token.encode() + b"\xff", id="binary"),
        pytest.param(lambda token: base64.b64encode(b"user:" + token.encode()), id="base64"),
        pytest.param(lambda token: base64.b64encode(b"a" + token.encode() + b"\n"), id="base64-1"),
        pytest.param(lambda token: base64.b64encode(b"x=" + token.encode() + b";"), id="base64-2"),
    ],
)
def test_the_search_sees_a_planted_leak(tmp_path: Path, plant: Callable[[str], bytes]) -> None:
    assert leaks(tmp_path, (HUB_CANARY,)) == []
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "training_args.bin").write_bytes(plant(HUB_CANARY))
    assert leaks(tmp_path, (HUB_CANARY,)) == [tmp_path / "deep" / "er" / "training_args.bin"]


@pytest.mark.parametrize("module", COMMANDS)
def test_a_token_on_the_command_line_is_refused_and_not_repeated(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"from {module} import main; main()", "--token", HUB_CANARY],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "holds a Hugging Face token" in done.stderr
    assert HUB_CANARY not in done.stdout + done.stderr
