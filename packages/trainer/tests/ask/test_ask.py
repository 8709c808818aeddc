"""What `xmlgrpo-ask` asks, how it shows a reply, and what it refuses."""

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from finished_runs import base_of, compared, finished
from xmlgrpo_rewards.console_script import Terminated
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import parse, render
from xmlgrpo_rewards.task import get_task
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_trainer.ask import command as ask_command
from xmlgrpo_trainer.ask.answer import Asked, Form, answer_given, answer_typed, load_chat
from xmlgrpo_trainer.ask.chat import Completion, OnText, ReplySettings, WholeCharacters, check_room
from xmlgrpo_trainer.ask.questions import given_questions
from xmlgrpo_trainer.ask.source import Source, of_model, of_run
from xmlgrpo_trainer.ask.view import ReplyView, remarks

CHINESE = "3个苹果共9元，7个苹果多少钱？"


def shown(*pieces: str) -> str:
    console = Console(file=io.StringIO(), width=40)
    view = ReplyView(console)
    for piece in pieces:
        view.feed(piece)
    view.end()
    written: io.StringIO = console.file  # type: ignore[assignment]  # the StringIO given above
    return written.getvalue()


REPLIES = [
    pytest.param(
        render("2 + 3 = 5", "5"), "reasoning:\n2 + 3 = 5\n\nanswer:\n5\n", id="strict-form"
    ),
    pytest.param("<answer>5</answer>", "answer:\n5\n", id="answer-only"),
    pytest.param("It is 5.", "It is 5.\n", id="no-tags"),
    pytest.param(
        "<reasoning>\na\n\nb\n", "reasoning:\na\n\nb\n", id="unfinished-keeps-inner-lines"
    ),
    pytest.param("Well <reasoning>x</reasoning> so", "Well\n\nreasoning:\nx\nso\n", id="outside"),
    pytest.param("1 < 2 and <b> is no tag", "1 < 2 and <b> is no tag\n", id="angle-brackets"),
    pytest.param("<reas", "<reas\n", id="half-a-tag-at-the-end"),
    pytest.param("", "", id="empty"),
    pytest.param(" \n ", "", id="blank"),
    pytest.param("<answer></answer>", "", id="empty-answer"),
    pytest.param(render(CHINESE, "21"), f"reasoning:\n{CHINESE}\n\nanswer:\n21\n", id="chinese"),
    pytest.param("[bold]5[/bold]", "[bold]5[/bold]\n", id="markup-is-text"),
    pytest.param("\x1b[2J5", "\ufffd[2J5\n", id="escape-sequence"),
]


@pytest.mark.parametrize(("reply", "expected"), REPLIES)
def test_a_reply_is_shown_the_same_however_it_is_cut(reply: str, expected: str) -> None:
    assert shown(reply) == expected
    assert shown(*reply) == expected  # character by character
    assert shown(*(reply[i : i + 3] for i in range(0, len(reply), 3))) == expected


def test_long_lines_are_not_folded_into_others() -> None:
    assert shown("word " * 40) == "word " * 39 + "word\n"


def test_on_a_terminal_reasoning_is_dim_and_the_answer_bold() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard")
    view = ReplyView(console)
    view.feed(render("why", "5"))
    view.end()
    written = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO given above
    assert "\x1b[2mwhy" in written
    assert "\x1b[1m5" in written


@pytest.mark.parametrize(
    ("reply", "lines"),
    [
        pytest.param(render("2 + 3 = 5 apples", "5"), ["2 + 3 = 5", "apples"], id="words"),
        pytest.param(render("1234567890 12", "5"), ["1234567890", "12"], id="just-fits"),
        pytest.param(render("12 1234567890123", "5"), ["12", "1234567890", "123"], id="long-word"),
        pytest.param(render("1234567890\n  12", "5"), ["1234567890", "  12"], id="own-lines"),
        pytest.param(render("共9元，7个苹果", "5"), ["共9元，7个", "苹果"], id="chinese"),
    ],
)
@pytest.mark.parametrize("piece", [1, 3, 100])
def test_on_a_terminal_a_line_ends_between_words(reply: str, lines: list[str], piece: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=10)
    view = ReplyView(console)
    for start in range(0, len(reply), piece):
        view.feed(reply[start : start + piece])
    view.end()
    written = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO given above
    shown = [line[at : at + 10] for line in written.splitlines() for at in range(0, len(line), 10)]
    assert [line.rstrip() for line in shown] == ["reasoning:", *lines, "answer:", "5"]


@pytest.mark.parametrize(
    ("text", "finish", "told"),
    [
        pytest.param(render("a", "5"), "stop", [], id="as-asked"),
        pytest.param(
            "<reasoning>a</reasoning><answer>5</answer>", "stop", ["white space"], id="soft"
        ),
        pytest.param("5", "stop", ["tags are missing"], id="no-tags"),
        pytest.param("<reasoning>a", "length", ["cut off after 9", "tags are missing"], id="cut"),
        pytest.param(" ", "stop", ["empty"], id="empty"),
    ],
)
def test_remarks_say_what_is_wrong_with_a_reply(text: str, finish: Any, told: list[str]) -> None:
    found = remarks(Completion(text, tokens=9, prompt_tokens=50, finish=finish), parse(text))
    assert len(found) == len(told)
    for remark, part in zip(found, told, strict=True):
        assert part in remark


def decode_bytes(ids: Sequence[int]) -> str:
    """A tokenizer whose tokens are bytes, as byte fallback has them."""
    return bytes(ids).decode("utf-8", errors="replace")


def test_half_a_character_is_held_back_until_it_is_whole() -> None:
    told: list[str] = []
    characters = WholeCharacters(decode_bytes, lambda _token: False, told.append)
    for byte in f"{CHINESE}\n🍎x".encode():
        characters.put([byte])
    characters.end()
    assert "".join(told) == f"{CHINESE}\n🍎x"
    assert not any("\ufffd" in piece for piece in told)


def test_a_character_that_never_becomes_whole_is_shown_at_the_end() -> None:
    told: list[str] = []
    characters = WholeCharacters(decode_bytes, lambda _token: False, told.append)
    for byte in b"5\xe4\xb8":
        characters.put([byte])
    assert told == ["5"]
    characters.end()
    assert "".join(told) == "5\ufffd"


def test_a_run_of_byte_tokens_is_shown_once_it_cannot_change() -> None:
    def decode(ids: Sequence[int]) -> str:
        """As tokenizers' ByteFallback: one wrong byte spoils its whole run; 999 is `!`."""
        runs = "".join("!" if i == 999 else f"{i:02x}" for i in ids).split("!")
        try:
            return "!".join(bytes.fromhex(run).decode() for run in runs)
        except UnicodeDecodeError:
            return "!".join("\ufffd" * (len(run) // 2) for run in runs)

    told: list[str] = []
    characters = WholeCharacters(decode, lambda token: token < 256, told.append)
    for token in [0x32, 0xE4, 999]:  # "2" alone would be right, with what follows it is not
        characters.put([token])
    characters.end()
    assert "".join(told) == "\ufffd\ufffd!"


@pytest.mark.parametrize(
    ("prompt_tokens", "new", "advice"),
    [
        pytest.param(90, 20, "--max-new-tokens 10", id="reply-too-long"),
        pytest.param(100, 1, "shorten the question", id="no-room"),
        pytest.param(5000, 1, "shorten the question", id="question-too-long"),
    ],
)
def test_a_question_over_the_context_is_refused(prompt_tokens: int, new: int, advice: str) -> None:
    with pytest.raises(UserError, match=advice):
        check_room(prompt_tokens, ReplySettings(new), context=100)
    check_room(90, ReplySettings(10), context=100)


def words(*given: str) -> argparse.Namespace:
    return ask_command.parser().parse_args(["--model", "x", *given])


@pytest.mark.parametrize(
    "question",
    [
        pytest.param('Tom\'s "3" apples cost $4; `ls` \\n #', id="shell"),
        pytest.param("two\nlines", id="lines"),
        pytest.param(CHINESE, id="chinese"),
    ],
)
def test_a_question_arrives_as_it_was_written(
    question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("Q", question)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(question.encode())))
    assert given_questions(words("--question-env", "Q")) == [question]
    assert given_questions(words("--question", question)) == [question]
    assert given_questions(words()) == [question]


def test_several_questions_come_in_their_order(tmp_path: Path) -> None:
    assert given_questions(words("--question", "1?", "--question", "2?")) == ["1?", "2?"]
    path = tmp_path / "questions.txt"
    path.write_text(f"1?\n\n  2? \r\n{CHINESE}", encoding="utf-8")
    assert given_questions(words("--questions", str(path))) == ["1?", "2?", CHINESE]


def test_at_a_terminal_questions_are_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert given_questions(words()) is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param(["--question", " \n"], "--question: the question is empty", id="blank"),
        pytest.param(["--question", "1?", "--question", ""], "is empty", id="second-blank"),
        pytest.param(["--question-env", "NOT_SET"], "NOT_SET: the question is empty", id="not-set"),
        pytest.param([], "standard input: the question is empty", id="empty-pipe"),
        pytest.param(["--question", "\udcff"], "not UTF-8", id="not-text"),
        pytest.param(["--questions", "none.txt"], "No such file", id="no-file"),
        pytest.param(["--questions", "blank.txt"], "holds no question", id="blank-file"),
        pytest.param(["--questions", "latin.txt"], "not UTF-8", id="latin-file"),
        pytest.param(["--questions", "endless.txt"], "at most 16,777,216 bytes", id="endless-file"),
        pytest.param(["--questions", "."], "cannot read the questions in", id="folder"),
    ],
)
def test_no_question_is_told(
    given: list[str], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blank.txt").write_text(" \n\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9?")
    monkeypatch.delenv("NOT_SET", raising=False)
    with (tmp_path / "endless.txt").open("wb") as endless:
        endless.truncate(1 << 40)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(UserError, match=told):
        given_questions(words(*given))


def scripted(
    messages: list[dict[str, str]], _settings: ReplySettings, on_text: OnText
) -> Completion:
    """Answers a question with itself; one is too long, and at one the person presses Ctrl-C."""
    question = messages[-1]["content"]
    if "long" in question:
        raise UserError("too long")
    on_text("<answer>\n")
    if "stop" in question:
        raise KeyboardInterrupt
    on_text("5\n</answer>")
    return Completion("<answer>\n5\n</answer>", 3, 4, "stop")


def asked(form: Form) -> Asked:
    return Asked(scripted, get_task("gsm8k"), ReplySettings(9), form)


def test_one_question_that_cannot_be_asked_does_not_end_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert answer_given(["1?", "long?", "\x1b[2J?"], asked("text")) == 2
    printed = capsys.readouterr()
    assert printed.out.count("answer:\n5\n") == 2
    assert "[3/3] \ufffd[2J?" in printed.out
    assert "error: question 2: too long" in printed.err


def test_replies_for_machines_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer_given(["1?", "2?"], asked("json")) == 0
    read = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["question"] for answer in read] == ["1?", "2?"]


@pytest.mark.parametrize(
    ("is_terminal", "shown"), [(True, "\ufffd[2J5\n"), (False, "\x1b[2J5\n")], ids=["tty", "pipe"]
)
def test_a_raw_reply_is_as_it_is_but_steers_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    is_terminal: bool,
    shown: str,
) -> None:
    def steering(_messages: object, _settings: ReplySettings, on_text: OnText) -> Completion:
        on_text("\x1b[2J5")
        return Completion("\x1b[2J5", 3, 4, "stop")

    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal, raising=False)
    answer_given(["1?"], Asked(steering, get_task("gsm8k"), ReplySettings(9), "raw"))
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("form", ["text", "raw", "json"])
def test_ctrl_c_says_how_far_it_came_and_ends_the_line(
    form: Form, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt, match="1 of 3 questions are answered above"):
        answer_given(["1?", "stop?", "3?"], asked(form))
    assert capsys.readouterr().out.endswith("\n")


def test_sigterm_ends_the_talk() -> None:
    def terminated(*_arguments: object) -> Completion:
        raise Terminated

    with pytest.raises(Terminated):
        answer_typed(
            iter(["1?", "2?"]), Asked(terminated, get_task("gsm8k"), ReplySettings(9), "text")
        )


def test_ctrl_c_ends_one_typed_question_and_not_the_talk(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert answer_typed(iter(["stop?", "long?", "3?"]), asked("text")) == 0
    printed = capsys.readouterr()
    assert printed.out.count("answer:\n5\n") == 1
    assert "stopped; the next question" in printed.err
    assert "error: too long" in printed.err


def write_run(root: Path, *, adapter: bool = True, merged: bool = False) -> None:
    run, hub_id = RunFolder(root), "google/gemma-3-4b-it"
    for name, wanted in (("adapter", adapter), ("merged", merged)):
        if wanted:
            (root / name).mkdir(parents=True)
            (root / name / "config.json").write_text("{}")
            (root / name / "adapter_config.json").write_text("{}")
            save_file({"a": torch.zeros(1)}, root / name / "adapter_model.safetensors")
    if merged:
        compared(run.merged)
    base = base_of(run, hub_id, revision="abc", quantized_4bit=True)
    finished(run, hub_id, base=base, max_completion_tokens=77, max_reply_tokens=88)


def test_a_base_that_moved_with_the_run_is_found_and_one_that_is_gone_is_named(
    tmp_path: Path,
) -> None:
    runs = tmp_path / "project" / "outputs"
    write_run(runs / "run")
    base = runs / "base" / "tiny"
    base.mkdir(parents=True)
    finished(RunFolder(runs / "run"), base)
    runs.parent.rename(tmp_path / "elsewhere")
    run = str(tmp_path / "elsewhere" / "outputs" / "run")
    here = tmp_path / "elsewhere" / "outputs" / "base" / "tiny"
    assert Path(of_run(run, merged=False).name).samefile(here)
    here.rmdir()
    with pytest.raises(
        UserError, match=rf"is not at {base} any more; put it back, or copy or link"
    ):
        of_run(run, merged=False)


def test_a_run_is_its_adapter_over_its_base(tmp_path: Path) -> None:
    root = tmp_path / "run"
    write_run(root, merged=True)
    assert of_run(str(root), merged=False) == Source(
        "transformers",
        "google/gemma-3-4b-it",
        revision="abc",
        adapter=root / "adapter",
        quantized=True,
        max_new_tokens=88,
    )
    merged = of_run(str(root), merged=True)
    assert (merged.name, merged.adapter) == (str(root / "merged"), None)


@pytest.mark.parametrize("ask", ["--run", "--model"])
@pytest.mark.parametrize("file", ["config.json", "adapter_model.safetensors", "tokenizer.json"])
def test_a_merged_model_that_changed_is_not_asked(tmp_path: Path, ask: str, file: str) -> None:
    root = tmp_path / "run"
    write_run(root, merged=True)
    (root / "merged/adapter_config.json").unlink()
    compared(root / "merged")
    path = root / "merged" / file
    path.write_bytes(b"{}" if not path.exists() else path.read_bytes()[:-1] + b" ")
    with pytest.raises(UserError, match="merged has changed since it was compared"):
        of_run(str(root), merged=True) if ask == "--run" else of_model(str(root / "merged"))


def test_a_base_that_has_moved_can_be_named(tmp_path: Path) -> None:
    run, was, now = RunFolder(tmp_path / "run"), tmp_path / "was", tmp_path / "now"
    was.mkdir()
    run.adapter.mkdir(parents=True)
    settings = json.dumps({"base_model_name_or_path": str(was), "revision": "abc"})
    (run.adapter / "adapter_config.json").write_text(settings)
    save_file({"a": torch.zeros(1)}, run.adapter / "adapter_model.safetensors")
    finished(run, was)
    assert of_run(str(run.root), merged=False).name == str(was)
    was.rename(now)
    with pytest.raises(UserError, match=r"base model of .* is not at .*was any"):
        of_run(str(run.root), merged=False)
    with pytest.raises(UserError, match=r"is not at .*was any more; .*--base"):
        of_model(str(run.adapter))
    named = of_run(str(run.root), merged=False, base=str(now))
    assert (named.name, named.revision, named.adapter) == (str(now), None, run.adapter)
    assert of_model(str(run.adapter), base=str(now)).name == str(now)
    now.rename(run.root / was.name)  # a base that stands in the run is found by itself
    assert of_run(str(run.root), merged=False).name == str(run.root / was.name)


def adapter_of(folder: Path, base: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    save_file({"a": torch.zeros(1)}, folder / "adapter_model.safetensors")
    return folder


def test_a_pickled_model_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(UserError, match=r"no \*\.safetensors, and pytorch_model\.bin is not read"):
        of_model(str(tmp_path))


def test_a_moved_adapter_finds_the_base_that_moved_with_its_run(tmp_path: Path) -> None:
    run, base = RunFolder(tmp_path / "before" / "outputs" / "run"), tmp_path / "before" / "base"
    base.mkdir(parents=True)
    adapter_of(run.adapter, str(base))
    finished(run, base)
    (tmp_path / "before").rename(tmp_path / "after")
    there = tmp_path / "after" / "outputs" / "run" / "adapter"
    assert Path(of_model(str(there)).name).samefile(tmp_path / "after" / "base")


@pytest.mark.parametrize("here", ["work", "."], ids=["as-seen-from-here", "as-seen-from-it"])
def test_an_adapter_with_a_relative_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str
) -> None:
    (tmp_path / "models" / "x").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    adapter = adapter_of(tmp_path / "adapter", "../models/x")
    monkeypatch.chdir(tmp_path / here)
    assert Path(of_model(str(adapter)).name).samefile(tmp_path / "models" / "x")
    assert of_model(str(adapter), base="org/name").name == "org/name"
    with pytest.raises(UserError, match=r"no model folder at .*not/there/at-all"):
        of_model(str(adapter), base="not/there/at-all")


@pytest.mark.parametrize(
    ("adapter", "merged", "words"),
    [
        pytest.param(True, True, "make merge", id="not-merged-yet"),
        pytest.param(False, False, "no adapter_config.json", id="no-adapter"),
    ],
)
def test_a_run_that_lacks_a_part_is_told(
    tmp_path: Path, *, adapter: bool, merged: bool, words: str
) -> None:
    write_run(tmp_path / "run", adapter=adapter)
    with pytest.raises(UserError, match=words):
        of_run(str(tmp_path / "run"), merged=merged)


def test_an_unfinished_run_and_a_missing_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run at"):
        of_run(str(tmp_path / "none"), merged=False)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("")
    with pytest.raises(UserError, match="has not finished"):
        of_run(str(tmp_path / "begun"), merged=False)


def test_models_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    gguf, adapter, merged = tmp_path / "m.gguf", tmp_path / "adapter", tmp_path / "merged"
    gguf.write_bytes(b"GGUF and more")
    adapter.mkdir()
    save_file({"a": torch.zeros(1)}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "x/y"}')
    merged.mkdir()
    (merged / "config.json").write_text("{}")
    save_file({"a": torch.zeros(1)}, merged / "model.safetensors")
    assert of_model(str(gguf)).kind == "gguf"
    assert of_model(str(adapter)) == Source("transformers", "x/y", adapter=adapter)
    assert of_model(str(merged)) == Source("transformers", str(merged))
    assert of_model("google/gemma-3-1b-it").name == "google/gemma-3-1b-it"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        pytest.param("m.gguf", b"PK\x03\x04", "is not a GGUF file", id="a-zip"),
        pytest.param("m.gguf", b"", "is not a GGUF file", id="empty"),
        pytest.param("m.gguf", None, "No such file", id="missing"),
        pytest.param("model.bin", b"\x80\x02", "is not a GGUF file", id="another-file"),
    ],
)
def test_what_is_no_gguf_never_reaches_llama_cpp(
    tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=told):
        of_model(str(path))


def test_a_folder_without_a_model_is_refused_before_the_libraries_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    for name in (str(tmp_path / "mine"), "~/mine"):
        with pytest.raises(UserError, match=r"the model folder '.*/mine' has no config\.json"):
            of_model(name)


def test_a_run_folder_given_as_a_model_is_pointed_to_run(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    with pytest.raises(UserError, match="ask it with --run"):
        of_model(str(tmp_path / "run"))


def test_a_gguf_without_llama_cpp_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.setitem(__import__("sys").modules, "llama_cpp", None)
    with pytest.raises(UserError, match="make gguf-setup"):
        load_chat(of_model(str(path)))


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["xmlgrpo-ask", *arguments])
    return ask_command.run()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["--model", "x", "--merged"], "--merged goes with --run", id="merged"),
        pytest.param(["--run", "x", "--merged", "--base", "y"], "model needs none", id="base"),
        pytest.param(["--model", "x", "--base", "y"], "'x' is none", id="no-adapter"),
        pytest.param(["--run", "x", "--task", "gsm8k"], "--task goes with --model", id="task"),
        pytest.param(["--model", "x", "--task", "gsm9k"], "did you mean 'gsm8k'", id="typo"),
        pytest.param(
            ["--model", "x", "--max-new-tokens", "0"], "max_new_tokens: expected 1", id="none"
        ),
        pytest.param(["--model", "x", "--temperature", "-1"], "temperature: expected 0", id="cold"),
        pytest.param(["--model", "x", "--temperature", "nan"], "temperature", id="nan"),
        pytest.param(["--model", "x", "--temperature", "inf"], "and finite, got inf", id="hot"),
        pytest.param(["--model", "x", "--seed", "abc"], "--seed: expected .* got 'abc'", id="word"),
        pytest.param(["--model", "x", "--seed", "-1"], "seed: expected a whole number", id="seed"),
        pytest.param(
            ["--model", "x", "--seed", "99999999999999999999"], "got '9999", id="long-seed"
        ),
    ],
)
def test_bad_arguments_are_told_before_a_model_is_loaded(
    arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=told):
        call(monkeypatch, *arguments, "--question", "5?")
