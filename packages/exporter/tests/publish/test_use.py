"""What was published, used by strangers: the card's own code, run against the hub."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from hub_server import serve

from .. import run_folders

TOKEN = "hf_" + "T" * 30

pytestmark = [pytest.mark.slow, pytest.mark.allow_hosts(["127.0.0.1"])]


def test_the_cards_code_runs_and_gives_the_model_that_was_trained(tiny_run, tmp_path):
    """The `transformers` and `peft` blocks as printed, each compared with the local model."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = tmp_path / "tiny"
    tiny = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_run.base), tiny_run.run / "adapter"
    )
    ids = torch.tensor([[2, 50, 60, 70]])
    expected = tiny(ids).logits[0, -1].tolist()
    copy_run(tiny_run, run)
    tiny.merge_and_unload().save_pretrained(run / "merged")

    with serve({TOKEN: ("alice", "write")}) as hub:
        environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
        environment |= {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(tmp_path / "home"),
        }
        environment |= {"HF_HUB_DISABLE_XET": "1"}
        main = "from xmlgrpo_exporter.cli import main; main()"
        words = ["push", "--run", str(run), "--repo", "alice/tiny", "--ungated"]
        python(environment, main, *words)
        card = hub.repos["alice/tiny"].tree()["README.md"].content.decode()
        blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        assert len(blocks) == 2
        asked = f"import torch\nlogits = model(torch.tensor({ids.tolist()})).logits"
        asked += "\nprint('LOGITS', logits[0, -1].tolist())"
        # in one Python, which imports the libraries once; neither block has the other's names
        code = "\n".join(f"exec({block + asked!r}, {{}})" for block in blocks)
        printed = re.findall(r"LOGITS (\[.*\])", python(environment, code))
        assert [json.loads(line) for line in printed] == [pytest.approx(expected, abs=1e-4)] * 2


def copy_run(tiny_run, run) -> None:
    """A run of the tiny base: the adapter with its base going along, merged weights to come."""
    shutil.copytree(tiny_run.run / "adapter", run / "adapter")
    shutil.copytree(
        tiny_run.base, run / "merged", ignore=shutil.ignore_patterns("*.safetensors", "config.json")
    )
    manifest = json.loads((tiny_run.run / "manifest.json").read_text())
    manifest["base"]["tiny"] = True
    run_folders.write_json(run / "manifest.json", manifest)


def python(environment: dict[str, str], code: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
