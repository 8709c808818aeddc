"""`xmlgrpo-ask` on the short tiny model: both ways to read it, and files that are broken."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from family_models import KINDS, write_model
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import messages
from xmlgrpo_trainer.ask import command as ask_command
from xmlgrpo_trainer.ask.answer import load_chat
from xmlgrpo_trainer.ask.chat import ReplySettings
from xmlgrpo_trainer.ask.folder import folder_chat
from xmlgrpo_trainer.ask.huggingface import transformers_chat
from xmlgrpo_trainer.ask.source import Source, of_model

pytestmark = pytest.mark.slow

CHINESE = "3个苹果共9元，7个苹果多少钱？"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["xmlgrpo-ask", *arguments])
    return ask_command.run()


def write_adapter(model: Any, folder: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapted(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    return write_adapter(model, tmp_path_factory.mktemp("adapter"))


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_what_is_streamed_is_the_reply(tiny_base: Path, temperature: float) -> None:
    chat = load_chat(of_model(str(tiny_base)))
    told: list[str] = []
    settings = ReplySettings(40, temperature, seed=5)
    said = chat(messages(CHINESE), settings, told.append)
    assert "".join(told) == said.text
    assert said.tokens <= 40
    again = chat(messages(CHINESE), settings, told.append)
    assert again == said


def test_the_prompt_and_greedy_reply_are_those_of_training(tiny_base: Path, adapted: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from xmlgrpo_rollout.engine import Sampling
    from xmlgrpo_rollout.generate import GenerateEngine
    from xmlgrpo_rollout.stop_tokens import stop_ids
    from xmlgrpo_trainer.problems.prompts import encode_prompts

    tokenizer = AutoTokenizer.from_pretrained(tiny_base, padding_side="left")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), adapted)
    prompts = encode_prompts(tokenizer, [messages("How many?")])
    engine = GenerateEngine(model, stop_ids(model, tokenizer), tokenizer.pad_token_id)
    [completion] = engine(prompts, 1, Sampling(max_new_tokens=24, temperature=0.0))
    ids = completion.tokens
    source = Source("transformers", str(tiny_base), adapter=adapted)
    said = load_chat(source)(messages("How many?"), ReplySettings(24), lambda _text: None)
    assert said.text == tokenizer.decode(ids, skip_special_tokens=True)
    assert (said.tokens, said.prompt_tokens) == (len(ids), len(prompts[0]))
    bare = load_chat(of_model(str(tiny_base)))
    assert bare(messages("How many?"), ReplySettings(24), lambda _text: None).text != said.text


READERS = [pytest.param(load_chat, id="files"), pytest.param(transformers_chat, id="modules")]


@pytest.mark.parametrize("settings", [ReplySettings(40), ReplySettings(40, 1.2, seed=7)])
@pytest.mark.parametrize("question", ["How many is 3 + 4?", CHINESE])
def test_files_and_modules_say_the_same(
    tiny_base: Path, adapted: Path, settings: ReplySettings, question: str
) -> None:
    source = Source("transformers", str(tiny_base), adapter=adapted)
    chat = folder_chat(source)
    assert chat is not None
    told: list[str] = []
    said = chat(messages(question), settings, told.append)
    assert "".join(told) == said.text
    assert said == transformers_chat(source)(messages(question), settings, lambda _text: None)


@pytest.mark.parametrize("family", KINDS)
def test_files_and_modules_of_another_family_say_the_same(family: str, tmp_path: Path) -> None:
    write_model(KINDS[family], tmp_path)
    source = of_model(str(tmp_path))
    chat = folder_chat(source)
    assert (chat is None) == (family == "qwen-2.5")  # its own tokenizer's class is not named there
    if chat is not None:
        for settings in (ReplySettings(40), ReplySettings(40, 1.2, seed=7)):
            said = chat(messages(CHINESE), settings, lambda _text: None)
            expected = transformers_chat(source)(messages(CHINESE), settings, lambda _text: None)
            assert said == expected


def other_model(hidden_size: int = 16) -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    sizes = {"intermediate_size": 16, "vocab_size": 32, "head_dim": 8, "hidden_size": hidden_size}
    return Gemma3ForCausalLM(Gemma3TextConfig(num_hidden_layers=1, **sizes))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def changed(change: Callable[[str, Tensor], Tensor | None]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        found = {name: change(name, tensor) for name, tensor in load_file(path).items()}
        save_file({name: tensor for name, tensor in found.items() if tensor is not None}, path)

    return spoil


SPOILT = [
    pytest.param(cut, id="cut-short"),
    pytest.param(emptied, id="empty"),
    pytest.param(zeroed, id="zeros"),
    pytest.param(
        changed(lambda name, tensor: None if "layers.1." in name else tensor), id="lacks-a-layer"
    ),
    pytest.param(
        changed(lambda name, tensor: tensor[:1] if "layers.0.self_attn.q" in name else tensor),
        id="another-shape",
    ),
]


@pytest.fixture
def copied(tiny_base: Path, adapted: Path, tmp_path: Path) -> Path:
    """A folder with `base` and an `adapter` over it, to be spoilt."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(tiny_base, base)
    shutil.copytree(adapted, adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(base)
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize("load", READERS)
@pytest.mark.parametrize("spoil", SPOILT)
@pytest.mark.parametrize("path", ["adapter/adapter_model.safetensors", "base/model.safetensors"])
def test_a_broken_file_is_told_in_one_sentence(
    copied: Path, path: str, spoil: Callable[[Path], None], load: Callable[[Source], Any]
) -> None:
    spoil(copied / path)
    with pytest.raises(UserError) as caught:
        load(of_model(str(copied / "adapter")))
    assert str((copied / path).parent) in str(caught.value)
    assert "\n" not in str(caught.value)


DESCRIPTIONS = [
    "adapter/adapter_config.json",
    "base/config.json",
    "base/tokenizer.json",
    "base/generation_config.json",
    "base/tokenizer_config.json",
]
LACKING = '{"model_type": "gemma3_text"}'


@pytest.mark.parametrize(
    ("path", "text"),
    [
        *((path, text) for path in DESCRIPTIONS for text in ("", "{", "[]")),
        *((path, LACKING) for path in DESCRIPTIONS[:3]),
    ],
)
def test_a_broken_description_is_told(copied: Path, path: str, text: str) -> None:
    (copied / path).write_text(text)
    with pytest.raises(UserError) as caught:
        load_chat(of_model(str(copied / "adapter")))
    assert "\n" not in str(caught.value)
    if (path, text) == ("base/config.json", LACKING):  # else a model of 2B weights is made first
        assert "describes another model: it has vocab_size" in str(caught.value)


@pytest.mark.parametrize("path", DESCRIPTIONS[3:])
def test_a_description_without_its_settings_does(copied: Path, path: str) -> None:
    (copied / path).write_text(LACKING)
    chat = load_chat(of_model(str(copied / "adapter")))
    assert chat(messages("3 + 4?"), ReplySettings(4), lambda _text: None).tokens


@pytest.mark.parametrize("load", READERS)
def test_an_adapter_of_another_model_is_told(
    tiny_base: Path, tmp_path: Path, load: Callable[[Source], Any]
) -> None:
    adapter = write_adapter(other_model(), tmp_path / "adapter")
    with pytest.raises(UserError, match="does not fit"):
        load(Source("transformers", str(tiny_base), adapter=adapter))


def test_asking_imports_neither_peft_nor_what_is_not_needed(tiny_base: Path, adapted: Path) -> None:
    code = (
        "import sys; from xmlgrpo_trainer.ask.command import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "unwanted = ('peft', 'sklearn', 'pandas', 'trl', 'datasets', 'accelerate', 'torch._dynamo',"
        " 'torch.distributed.tensor', 'transformers.modeling_utils', 'transformers.generation')\n"
        "print([name for name in unwanted if name in sys.modules])"
    )
    source = json.loads((adapted / "adapter_config.json").read_text())
    assert source["base_model_name_or_path"] == str(tiny_base)
    done = subprocess.run(
        [sys.executable, "-c", code, "--model", str(adapted), "--question", "3 + 4?"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_command_answers_for_people_and_for_machines(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("Q", CHINESE)
    asked = ["--model", str(tiny_base), "--question-env", "Q", "--max-new-tokens", "6"]
    assert call(monkeypatch, *asked, "--json") == 0
    read = json.loads(capsys.readouterr().out)
    assert read["question"] == CHINESE
    assert (read["finish"], read["tokens"], read["strict_format"]) == ("length", 6, False)
    assert call(monkeypatch, *asked, "--raw") == 0
    assert capsys.readouterr().out == read["reply"] + "\n"
    assert call(monkeypatch, *asked) == 0
    printed = capsys.readouterr()
    assert "cut off after 6 tokens" in printed.err
    assert "cut off" not in printed.out


def test_a_question_that_smuggles_a_bos_in_is_refused(tiny_base: Path) -> None:
    chat = load_chat(of_model(str(tiny_base)))
    with pytest.raises(UserError, match="2 <bos> tokens"):
        chat(messages("5<bos>?"), ReplySettings(4), lambda _text: None)
