"""From training to a stranger's machine: a run, its exports and results, pushed and used.

Every step is the command that a user gives, in a process of its own; the hub is the exporter's
contract server.  The model is the tiny one, trained for a moment: what is tested is the chain.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from damage import unnamed
from hub_server import serve
from tracing import linked_numbers, untraced, value_at

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_" + "CanaryOfTheWholeChain000000000000"
WANDB_CANARY = "decaf0" * 6 + "deca"
REPO = "alice/tiny"

TRAIN = (
    *("grpo.max_steps=2", "grpo.save_steps=1", "data.generated_rows=128"),
    *("holdout.report_rows=32", "holdout.validation_rows=16"),
    *("model.tiny.warm_steps=150", "watch.wandb=offline"),
)
ASK = """
import sys
from llama_cpp import Llama
chat = [{"role": "user", "content": "What is 12 + 30?"}]
model = Llama(sys.argv[1], n_ctx=512, verbose=False)
print(model.create_chat_completion(chat, temperature=0, max_tokens=64)["choices"][0]["message"])
"""

pytestmark = [
    pytest.mark.gguf,
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.timeout(2400),  # the whole chain, on a machine that may be busy
]


def entry(module: str) -> list[str]:
    """The start of a command line that runs a console script's function."""
    return [sys.executable, "-c", f"from {module} import main; main()"]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The run after every step, the hub that it went to, and all that was printed."""
    home = tmp_path_factory.mktemp("chain")
    run, printed = home / "run", []
    (home / "tmp").mkdir()
    with serve({TOKEN: ("alice", "write")}) as hub:
        inherited = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
        environment = inherited | {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(home / "hf"),
            "WANDB_API_KEY": WANDB_CANARY,
            "TMPDIR": str(home / "tmp"),
        }

        def do(*command: str) -> str:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
            printed.append(done.stdout + done.stderr)
            assert done.returncode == 0, done.stderr[-3000:]
            return done.stdout

        export, evaluate = entry("xmlgrpo_exporter.cli"), entry("xmlgrpo_evaluator.cli")
        of_run = ("--run", str(run))
        do(*entry("xmlgrpo_trainer.cli"), "--config", "configs/tiny.yaml", *of_run, *TRAIN)
        few = ("--prompts", "4", "--new-tokens", "24")
        do(*export, "gguf", *of_run, "--quants", "q8_0", *few)
        do(*evaluate, "run", *of_run, "--limit", "12", "--quiet")
        do(*evaluate, "ladder", *of_run, "--limit", "12")
        do(*export, "push", *of_run, "--repo", REPO)
        downloaded = home / "downloaded"
        download = "import sys, huggingface_hub as hub; hub.snapshot_download(*sys.argv[1:])"
        download = download.replace("*sys.argv[1:]", "sys.argv[1], local_dir=sys.argv[2]")
        do(sys.executable, "-c", download, REPO, str(downloaded))
        files = {
            path.relative_to(downloaded).as_posix(): path.read_bytes()
            for path in downloaded.rglob("*")
            if path.is_file() and ".cache" not in path.parts
        }
        assert unnamed(run) == []
        yield SimpleNamespace(
            home=home, run=run, hub=hub, files=files, downloaded=downloaded, printed=printed, do=do
        )


def test_what_comes_down_is_what_went_up(chain):
    record = json.loads((chain.run / "hub/pushed.json").read_text())
    went = {file["target"]: file["sha256"] for file in record["files"]}
    assert {path: hashlib.sha256(content).hexdigest() for path, content in chain.files.items()} == (
        went
    )
    for path, source in (
        ("model.safetensors", "merged/model.safetensors"),
        ("adapter/adapter_model.safetensors", "adapter/adapter_model.safetensors"),
        ("run-q8_0.gguf", "gguf/run-q8_0.gguf"),
    ):
        assert chain.files[path] == (chain.run / source).read_bytes()


def test_every_number_on_the_card_is_in_the_file_that_it_names(chain):
    card = chain.files["README.md"].decode()
    files = {path for _, path, _ in linked_numbers(card)}
    assert {"results/manifest.json", "results/ladder.json", "results/gguf-check.json"} <= files
    assert any(path.startswith("results/eval/compare") for path in files)
    others = {path: content for path, content in chain.files.items() if path != "README.md"}
    assert untraced(card, others) == []
    index = yaml.safe_load(card.split("---\n")[1])["model-index"][0]["results"]
    for result in index:
        counted = value_at(others[result["source"]["name"]], "/holdout/after/strict_accuracy")
        shares = [metric["value"] for metric in result["metrics"]]
        assert counted["hits"] / counted["total"] in shares


def test_the_cards_code_gives_the_model_that_was_trained(chain):
    """The three Python blocks as they are printed; each model answers as the local one does."""
    card = chain.files["README.md"].decode()
    merged, adapted, llama = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    logits = "\nimport torch\nprint('LOGITS', model(torch.tensor([[2, 50, 60, 70]])).logits[0, -1])"
    of_merged, of_adapted = (
        chain.do(sys.executable, "-c", block + logits).split("LOGITS")[1]
        for block in (merged, adapted)
    )
    local = (
        "from transformers import AutoModelForCausalLM\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(chain.run / 'merged')!r})"
    )
    assert of_merged == chain.do(sys.executable, "-c", local + logits).split("LOGITS")[1]
    assert numbers(of_adapted) == pytest.approx(numbers(of_merged), abs=1e-3)
    assert chain.do(sys.executable, "-c", llama).strip()
    there, here = (
        chain.do(sys.executable, "-c", ASK, str(file))
        for file in (chain.downloaded / "run-q8_0.gguf", chain.run / "gguf/run-q8_0.gguf")
    )
    assert there == here
    assert "'content': ''" not in there


def test_the_canaries_are_nowhere(chain):
    """Not in a file of the run, the checkpoints, wandb, the caches, temporary folders or a line."""
    there = [path for path in chain.home.rglob("*") if path.is_file()]
    names = {path.name for path in there}
    # what is searched is really there
    assert {"training_args.bin", "optimizer.pt", "pushed.json", "compare-n12.json"} <= names
    assert any(name.endswith(".wandb") for name in names)
    sent = [request.path.encode() + request.body for request in chain.hub.requests]
    assert any(request.authorization == f"Bearer {TOKEN}" for request in chain.hub.requests)
    for canary in (TOKEN.encode(), WANDB_CANARY.encode()):
        assert [path for path in there if canary in path.read_bytes()] == []
        assert not any(canary in content for content in sent)
        assert not any(canary.decode() in text for text in chain.printed)


def test_no_path_of_this_machine_is_published(chain):
    places = [str(place).encode() for place in (chain.home, ROOT, Path.home())]
    assert [
        path for path, content in chain.files.items() for place in places if place in content
    ] == []


def numbers(tensor: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", tensor)]
