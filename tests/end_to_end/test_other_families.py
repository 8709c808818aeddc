"""Models of other families through every stage, by the commands that a user gives.

Each is tiny and random: what is tested is that the chain follows the model, not the learning.
"""

from pathlib import Path

import pytest

from family_models import KINDS, write_model
from xmlgrpo_run.files import read_json

from .stages import GATES, ROOT, command

SETTINGS = (
    "data.generated_rows=60",
    "holdout.report_rows=8",
    "holdout.validation_rows=8",
    "holdout.every=2",
    "grpo.max_steps=2",
    "grpo.save_steps=2",
    "grpo.per_device_train_batch_size=8",
    "grpo.num_generations=4",
    "grpo.max_completion_length=16",
    "rollout=graph",
    "packed_rows=true",
    "rewards.odd_reward:odd=1.0",
)
# random replies earn nothing of the others, and without a spread of rewards nothing is learnt
REWARD = """
def odd(completions, **_):
    return [float(sum(map(ord, reply[0]["content"])) % 7) for reply in completions]
"""

pytestmark = [pytest.mark.gguf, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("family", KINDS)
def test_every_stage_follows_the_model(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, run = tmp_path / "base", tmp_path / "run"
    write_model(KINDS[family], base)
    (tmp_path / "odd_reward.py").write_text(REWARD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = ("--config", ROOT / "configs" / "tiny.yaml", "--run", run, f"model.name={base}")
    command("xmlgrpo-train", *words, *SETTINGS)
    assert read_json(run / "manifest.json")["base"]["model_class"].endswith("ForCausalLM")

    command("xmlgrpo-eval", "run", "--run", run, "--limit", 4)
    command("xmlgrpo-export", "merge", "--run", run)
    # replies of random weights hang on the last bit; what a distribution is off by does not
    limits = ("--min-identical", "0")
    quants = ("--quants", "f16", "q8_0")
    command("xmlgrpo-export", "gguf", "--run", run, *quants, *limits)
    files = read_json(run / "gguf" / "check.json")["files"]
    assert len(files) == 2
    for checked in files.values():
        assert {name for name, gate in checked["gates"].items() if gate["passed"]} == GATES
    modelfile = next((run / "gguf").glob("*f16.Modelfile")).read_text(encoding="utf-8")
    for end in KINDS[family].ends:
        assert f'PARAMETER stop "{end}"' in modelfile

    pushed = ("--repo", "me/model", "--dry-run", "--ungated")
    shown = command("xmlgrpo-export", "push", "--run", run, *pushed)
    assert "README.md" in shown
