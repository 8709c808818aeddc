"""Small real runs, a run that is exported, and a hub to publish on."""

import shutil
import time
from types import SimpleNamespace

import pytest

from hub_server import serve

from . import run_folders, tiny_runs
from .exporting import FEW, QUIET, run_cli
from .publishing import READ, WRITE


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A finished run of a text-only Gemma 3: `.base` and `.run` are folders."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GenerationConfig

    home = tmp_path_factory.mktemp("export")
    base, run = home / "base", home / "tiny"
    tokenizer = tiny_runs.build_tokenizer(base)
    torch.manual_seed(0)
    model = Gemma3ForCausalLM(Gemma3TextConfig(**tiny_runs.TEXT_SHAPE))
    tiny_runs.teach(model, tokenizer, steps=60)
    model.generation_config = GenerationConfig(eos_token_id=1, bos_token_id=2, pad_token_id=0)
    model.save_pretrained(base)
    tiny_runs.add_adapter(model, run / "adapter", ["q_proj", "v_proj", "down_proj"])
    tiny_runs.write_run(run, base, "Gemma3ForCausalLM")
    return SimpleNamespace(base=base, run=run)


@pytest.fixture(scope="session")
def vision_run(tmp_path_factory, tiny_run):
    """A finished run of a Gemma 3 with a vision tower, as from 4B up."""
    import torch
    from transformers import Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration

    home = tmp_path_factory.mktemp("vision")
    base, run = home / "base", home / "seeing"
    base.mkdir()
    for path in tiny_run.base.glob("*token*"):
        shutil.copy(path, base / path.name)
    shutil.copy(tiny_run.base / "chat_template.jinja", base)
    torch.manual_seed(0)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    model = Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config=tiny_runs.TEXT_SHAPE,
            vision_config=vision,
            mm_tokens_per_image=1,
            image_token_index=509,
            boi_token_index=510,
            eoi_token_index=511,
        )
    )
    taught = Gemma3ForCausalLM.from_pretrained(tiny_run.base)
    model.model.language_model.load_state_dict(taught.model.state_dict())
    model.save_pretrained(base)
    tiny_runs.add_adapter(model, run / "adapter", r".*language_model.*\.(q_proj|v_proj)")
    tiny_runs.write_run(run, base, "Gemma3ForConditionalGeneration")
    return SimpleNamespace(base=base, run=run)


@pytest.fixture(scope="session")
def exported(tiny_run, tmp_path_factory):
    """The run, exported by the command that a user gives."""
    # a folder's name that rich would read as markup
    run = tmp_path_factory.mktemp("exported") / "x[" / "b]" / "tiny"
    shutil.copytree(tiny_run.run, run)
    assert run_cli("gguf", "--run", run, "--quants", "f16 q8_0 q4_k_m", *FEW) == 0
    return run


@pytest.fixture(scope="session")
def reference(exported):
    """The merged model and its replies."""
    from xmlgrpo_exporter.check.questions import Comparison, Questions
    from xmlgrpo_exporter.check.reference import answer_questions
    from xmlgrpo_exporter.transformers_model import hash_model

    questions = tuple(question for question, _ in tiny_runs.problems(4))
    asked = Questions("the fixture's problems", questions)
    comparison = Comparison(asked, QUIET, prompts=4, new_tokens=24, device="cpu", timeout_s=300)
    return answer_questions(hash_model(exported / "merged", QUIET), comparison)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub, and a client that asks it by LFS, keeps its files in `tmp_path` and never waits."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    from xmlgrpo_exporter.publish import hub_calls

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", WRITE)
    monkeypatch.setattr(hub_calls, "WAIT_S", 0)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client's waits between tries
    disable_progress_bars()
    with serve({WRITE: ("alice", "write"), READ: ("alice", "read")}) as hub:
        yield hub
    enable_progress_bars()


@pytest.fixture
def run(tmp_path):
    """A run with every artefact and every gate passed, and no model in it."""
    return run_folders.write_full_run(tmp_path / "gsm8k-1b")
