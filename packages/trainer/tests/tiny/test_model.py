"""The tiny model: built once, complete, repeatable; its tokenizer is in Gemma's form."""

import dataclasses
import json
import os
import random
import signal
import threading
from typing import Any

import pytest
import sentencepiece
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from xmlgrpo_rewards.reply import SYSTEM, TAGS, messages, parse
from xmlgrpo_trainer.tiny.build import digest, ensure_tiny_model
from xmlgrpo_trainer.tiny.examples import Example, Mixture, examples, target, tokenized
from xmlgrpo_trainer.tiny.model import make_model
from xmlgrpo_trainer.tiny.muon import Muon, orthogonalised
from xmlgrpo_trainer.tiny.problems import generate
from xmlgrpo_trainer.tiny.settings import TinySettings
from xmlgrpo_trainer.tiny.warm_start import (
    IGNORED,
    _collate,
    _rate,
    set_gradients,
    single_threads,
    train_on,
)

SMALL = TinySettings(
    hidden_size=32,
    layers=1,
    heads=2,
    kv_heads=1,
    head_dim=16,
    mlp_size=48,
    warm_steps=40,
    warm_batch=8,
)
FILES = {
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tiny.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
}


def dice():
    return random.Random(0)  # noqa: S311 - no secret depends on it


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ensure_tiny_model(tmp_path_factory.mktemp("cache"), SMALL, seed=0)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


class TestBuild:
    def test_folder_is_a_complete_model(self, folder, tokenizer):
        assert {path.name for path in folder.iterdir()} == FILES
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert type(model).__name__ == "Gemma3ForCausalLM"
        assert model.dtype == torch.float32
        end_of_turn = tokenizer.convert_tokens_to_ids("<end_of_turn>")
        assert model.generation_config.eos_token_id == [1, end_of_turn]
        assert model.config.vocab_size == len(tokenizer)

    def test_description_tells_how_it_was_made(self, folder):
        description = json.loads((folder / "tiny.json").read_text())
        assert description["settings"] == dataclasses.asdict(SMALL)
        assert description["seed"] == 0
        assert description["steps"] == 40
        assert 0 < description["loss"] < 7
        assert description["seconds"] > 0

    def test_no_file_tells_where_it_was_made(self, folder):
        for path in folder.iterdir():
            assert str(folder.parent).encode() not in path.read_bytes(), path.name

    def test_it_is_built_once(self, folder):
        before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
        progress = []
        again = ensure_tiny_model(
            folder.parent, SMALL, seed=0, on_progress=lambda *told: progress.append(told)
        )
        assert again == folder
        assert progress == []
        assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before

    def test_the_same_seed_gives_the_same_bytes_and_leaves_torch_alone(self, folder, tmp_path):
        torch.manual_seed(11)
        state, threads = torch.get_rng_state(), torch.get_num_threads()
        torch.set_num_threads(3)  # no number that the building sets itself
        try:
            again = ensure_tiny_model(tmp_path, SMALL, seed=0)
            assert torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(threads)
        assert torch.equal(torch.get_rng_state(), state)
        for name in sorted(FILES - {"tiny.json"}):
            assert (again / name).read_bytes() == (folder / name).read_bytes(), name

    def test_any_setting_and_the_seed_make_another_model(self):
        digests = {digest(SMALL, 0), digest(SMALL, 1)}
        for field in dataclasses.fields(SMALL):
            value = getattr(SMALL, field.name)
            changed: Any = value / 2 if isinstance(value, float) else value * 2
            digests.add(digest(dataclasses.replace(SMALL, **{field.name: changed}), 0))
        assert len(digests) == 2 + len(dataclasses.fields(SMALL))

    def test_progress_is_told(self, tmp_path):
        told = []
        ensure_tiny_model(tmp_path, SMALL, 3, lambda *progress: told.append(progress))
        assert [(step, steps) for step, steps, _ in told] == [(0, 40), (20, 40), (40, 40)]
        assert told[0][2] is None
        assert told[2][2] < told[1][2]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupted_build_goes_on_to_the_same_bytes(self, folder, tmp_path, number):
        def interrupt(step, _steps, _loss):
            if step == 20:
                os.kill(os.getpid(), number)

        before = signal.getsignal(number)
        with pytest.raises(KeyboardInterrupt, match="kept up to step 20 of 40; run the same"):
            ensure_tiny_model(tmp_path, SMALL, 0, interrupt)
        assert signal.getsignal(number) is before
        assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
        told = []
        again = ensure_tiny_model(tmp_path, SMALL, 0, lambda *progress: told.append(progress))
        assert told[0] == (20, 40, None)
        for name in sorted(FILES - {"tiny.json"}):
            assert (again / name).read_bytes() == (folder / name).read_bytes(), name
        ours, theirs = (json.loads((of / "tiny.json").read_text()) for of in (again, folder))
        assert ours["loss"] == theirs["loss"]
        assert {path.name for path in tmp_path.iterdir()} == {again.name, f".{again.name}.lock"}

    def test_a_killed_build_goes_on_from_what_was_kept_last(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr("xmlgrpo_trainer.tiny.warm_start.KEEP_EVERY", 15)

        def die(step, _steps, _loss):
            if step == 40:
                raise MemoryError

        with pytest.raises(MemoryError):
            ensure_tiny_model(tmp_path, SMALL, 0, die)
        told = []
        again = ensure_tiny_model(tmp_path, SMALL, 0, lambda *progress: told.append(progress))
        assert told[0] == (30, 40, None)
        weights = "model.safetensors"
        assert (again / weights).read_bytes() == (folder / weights).read_bytes()
        ours, theirs = (json.loads((of / "tiny.json").read_text()) for of in (again, folder))
        assert ours["loss"] == theirs["loss"]  # a mean that begins before the step it went on from

    def test_what_cannot_be_read_of_an_interrupted_build_is_built_again(self, folder, tmp_path):
        (tmp_path / f".tiny-{digest(SMALL, 0)}.safetensors").write_bytes(b"half")
        again = ensure_tiny_model(tmp_path, SMALL, 0)
        weights = "model.safetensors"
        assert (again / weights).read_bytes() == (folder / weights).read_bytes()

    def test_what_a_killed_build_left_is_replaced(self, tmp_path):
        partial = tmp_path / f".tiny-{digest(SMALL, 5)}.{2**22 + 1}.partial"  # of no process
        partial.mkdir()
        (partial / "tokenizer.json").write_text("half")
        built = ensure_tiny_model(tmp_path, SMALL, 5)
        assert {path.name for path in built.iterdir()} == FILES
        assert not partial.exists()

    def test_of_two_that_ask_at_once_one_builds(self, tmp_path):
        told, waits, folders = [], threading.Event(), []

        def tell(*_):
            told.append(waits.wait(60))  # it builds until the other one has asked

        def ask():
            folders.append(ensure_tiny_model(tmp_path, SMALL, 6, tell, waits.set))

        askers = [threading.Thread(target=ask) for _ in range(2)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        assert len(set(folders)) == 1
        assert told == [True] * 3  # one build's worth of progress


class TestTokenizer:
    def test_special_tokens_stand_where_gemmas_do(self, tokenizer):
        named = [tokenizer.convert_ids_to_tokens(token) for token in range(4)]
        assert named == ["<pad>", "<eos>", "<bos>", "<unk>"]
        assert tokenizer.padding_side == "left"

    def test_each_tag_and_the_newline_is_one_token(self, tokenizer):
        for text in (*TAGS, "\n"):
            assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == 1, text

    def test_every_digit_is_a_token(self, tokenizer):
        for digits in ("10", "12", "365"):
            tokens = tokenizer.tokenize(digits)
            assert tokens == list(digits)

    def test_ids_are_those_of_sentencepiece(self, folder, tokenizer):
        reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        rows = generate(200, seed=1)
        texts = [row["question"] for row in rows] + [row["answer"] for row in rows]
        texts += [SYSTEM, "3个苹果共9元", "  two  spaces ", "tab\tand\nnewline", "naïve £5 😀", ""]
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert ids == reference.encode(text), text
            assert tokenizer.decode(ids) == text

    def test_chat_is_written_as_gemma_writes_it(self, tokenizer):
        chat = [*messages("How many?"), {"role": "assistant", "content": " 4 \n"}]
        assert tokenizer.apply_chat_template(chat, tokenize=False) == (
            f"<bos><start_of_turn>user\n{SYSTEM}\n\nHow many?<end_of_turn>\n"
            "<start_of_turn>model\n4<end_of_turn>\n"
        )

    def test_a_chat_without_a_system_message(self, tokenizer):
        chat = [{"role": "user", "content": "Hi"}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert text == "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"

    def test_turns_must_alternate(self, tokenizer):
        chat = [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Hi"}]
        with pytest.raises(Exception, match="must alternate"):
            tokenizer.apply_chat_template(chat, tokenize=False)

    def test_the_end_of_a_turn_is_not_part_of_a_reply(self, tokenizer):
        reply = target("Tom has 1+2 = 3 pens.\n#### 3", worked=True, tagged=True)
        ids = tokenizer(reply + "<end_of_turn>", add_special_tokens=False)["input_ids"]
        text = tokenizer.decode(ids, skip_special_tokens=True)
        assert text == reply
        assert parse(text).strict

    def test_prompts_are_those_of_the_chat_template(self, tokenizer):
        questions = [row["question"] for row in generate(20, seed=2)] + ["a {{ b }} @@ \\n"]
        rendered = [
            tokenizer.apply_chat_template(
                messages(question), add_generation_prompt=True, tokenize=False
            )
            for question in questions
        ]
        asked = tokenized(tokenizer, messages, questions, [""] * len(questions))
        expected = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        assert [one.prompt for one in asked] == expected


class TestWarmStart:
    def test_targets_are_the_reply_shifted_by_one(self):
        inputs, targets = _collate([Example([9, 8], [7, 6]), Example([9], [5])])
        assert inputs.tolist() == [[9, 8, 7, 6], [9, 5, 0, 0]]
        assert targets.tolist() == [[IGNORED, 7, 6, IGNORED], [5, IGNORED, IGNORED, IGNORED]]

    @pytest.mark.parametrize(
        ("step", "expected"),
        [(1, 1 / 30), (15, 0.5), (30, 1.0), (500, 1.0), (750, 0.5), (1000, 0.02)],
    )
    def test_rates_rise_stay_and_fall(self, step, expected):
        assert _rate(step, 1000) == pytest.approx(expected)

    def test_the_mixture_is_drawn_as_asked(self, tokenizer):
        rows = generate(1500, seed=3)
        drawn = examples(tokenizer, rows, Mixture(worked=0.8, tagged=0.4), dice())
        texts = tokenizer.batch_decode([example.reply for example in drawn])
        tagged = sum(text.startswith("<reasoning>") for text in texts) / len(texts)
        worked = sum(" = " in text for text in texts) / len(texts)
        assert 0.36 < tagged < 0.44
        assert 0.76 < worked < 0.84
        assert all(text.endswith("<end_of_turn>") for text in texts)

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_threads_compute_the_gradient_of_the_whole_batch(self, tokenizer, count):
        rows = generate(8, seed=4)
        batch = examples(tokenizer, rows, Mixture(worked=0.5, tagged=0.5), dice())
        model = make_model(SMALL, tokenizer, seed=0)
        inputs, targets = _collate(batch)
        logits = model(input_ids=inputs).logits
        expected = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED
        )
        expected.backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        with single_threads(count) as pool:
            loss = set_gradients(model, batch, pool, count)
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            assert torch.allclose(parameter.grad, gradient, atol=1e-6)

    def test_it_learns(self, tokenizer):
        rows = generate(8, seed=5)
        batch = examples(tokenizer, rows, Mixture(worked=0.0, tagged=0.0), dice())
        model = make_model(SMALL, tokenizer, seed=0)
        told = []
        train_on(model, batch * 60, SMALL, 0, lambda *now: told.append(now))
        assert told[-1][2] < 0.5 * told[1][2]
        assert not model.training


class TestMuon:
    @pytest.mark.parametrize(
        "shape", [(16, 16), (48, 16), (16, 48)], ids=["square", "tall", "wide"]
    )
    def test_steps_are_torchs_but_for_its_rounding(self, shape):
        torch.manual_seed(0)
        theirs, ours = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
        fields: dict[str, Any] = {
            "lr": 0.02,
            "weight_decay": 0.0,
            "momentum": 0.95,
            "adjust_lr_fn": "original",
        }
        optimizers = torch.optim.Muon([theirs], **fields), Muon([ours], lr=0.02)
        for _ in range(4):
            theirs.grad = torch.randn(shape)
            ours.grad = theirs.grad.clone()
            for optimizer in optimizers:
                optimizer.step()
        moved = (theirs - 1).norm()
        assert moved > 0.1
        assert (theirs - ours).norm() / moved < 0.02

    def test_all_directions_become_equally_long(self):
        torch.manual_seed(0)
        uneven = torch.diag(torch.tensor([8.0, 4.0, 2.0, 1.0])) @ torch.randn(4, 6)
        lengths = torch.linalg.svdvals(orthogonalised(uneven))
        assert torch.linalg.svdvals(uneven).max() > 5 * torch.linalg.svdvals(uneven).min()
        assert lengths.min() > 0.5
        assert lengths.max() < 1.5

    def test_a_matrix_without_a_gradient_stays(self):
        matrix = torch.nn.Parameter(torch.ones(3, 3))
        Muon([matrix], lr=0.02).step()
        assert torch.equal(matrix, torch.ones(3, 3))
