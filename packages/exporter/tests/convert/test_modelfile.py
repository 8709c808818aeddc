"""How to run the file elsewhere."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from xmlgrpo_exporter.convert.modelfile import llama_cpp_line, ollama_line, ollama_template

QUESTION = "Tom's book costs $3. What does he pay for 2?"


def test_ollama_template_is_read_off_the_model_s_own():
    def gemma(messages, *, add_generation_prompt):
        system = ""
        if messages[0]["role"] == "system":
            system, messages = messages[0]["content"] + "\n\n", messages[1:]
        text = f"<bos><start_of_turn>user\n{system}{messages[0]['content']}<end_of_turn>\n"
        for message in messages[1:]:
            text += f"<start_of_turn>model\n{message['content']}<end_of_turn>\n"
        return text + ("<start_of_turn>model\n" if add_generation_prompt else "")

    # the form of Ollama's own one-turn templates, system and question in one user turn
    assert ollama_template(gemma, "<bos>") == (
        "{{ if .System }}<start_of_turn>user\n{{ .System }}\n\n"
        "{{ else }}<start_of_turn>user\n{{ end }}"
        "{{ .Prompt }}<end_of_turn>\n<start_of_turn>model\n{{ .Response }}<end_of_turn>\n"
    )


def test_without_a_system_role_ollamas_system_text_begins_the_users_turn():
    def gemma_2(messages, *, add_generation_prompt):
        if messages[0]["role"] == "system":
            raise ValueError("System role not supported")
        text = "<bos>"
        for message in messages:
            role = message["role"].replace("assistant", "model")
            text += f"<start_of_turn>{role}\n{message['content']}<end_of_turn>\n"
        return text + "<start_of_turn>model\n" * add_generation_prompt

    assert ollama_template(gemma_2, "<bos>") == (
        "{{ if .System }}<start_of_turn>user\n{{ .System }}\n\n"
        "{{ else }}<start_of_turn>user\n{{ end }}"
        "{{ .Prompt }}<end_of_turn>\n<start_of_turn>model\n{{ .Response }}<end_of_turn>\n"
    )


def test_the_limits_of_a_chat_are_not_spent_on_importing_its_renderer():
    """As in `push`, which imports the renderer for the first file: only a new Python has not."""
    script = """
from xmlgrpo_exporter.convert.modelfile import modelfile
from xmlgrpo_gguf.header import GgufHeader

turns = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}</>{% endfor %}"
print(modelfile("a.gguf", GgufHeader(3, {"tokenizer.chat_template": turns}, ()), (), ""))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, text=True, timeout=120
    )
    assert "{{ .Prompt }}</><assistant>{{ .Response }}</>" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("system", "chat", "words"),
    [
        pytest.param(
            "Reply:\n<answer>\n</answer>",
            True,
            "llama-cli -m {file} --jinja --single-turn --temp 0 --system-prompt {system} --prompt",
            id="chat",
        ),
        pytest.param(
            "",
            True,
            "llama-cli -m {file} --jinja --single-turn --temp 0 --prompt",
            id="chat-without-system",
        ),
        pytest.param(
            "", False, "llama-completion -m {file} -no-cnv --temp 0 --prompt", id="plain-text"
        ),
    ],
)
def test_the_line_for_llama_cpp_is_pasted_as_it_stands_and_fits(system, chat, words):
    file = "outputs/my run/gguf/tiny-q8_0.gguf"
    line = llama_cpp_line(file, system, QUESTION, chat=chat)
    assert max(map(len, line.splitlines())) <= 80
    expected = [word.format(file=file, system=system) for word in words.split()]
    assert shlex.split(line.replace("\\\n", " ")) == [*expected, QUESTION]


def test_the_line_for_ollama_is_pasted_as_it_stands_and_fits():
    line = ollama_line(Path("outputs/my run/gguf"), "tiny-q8_0.gguf", QUESTION)
    assert max(map(len, line.splitlines())) <= 80
    commands = [shlex.split(part) for part in line.replace("\\\n", " ").split("&&")]
    assert commands == [
        ["cd", "outputs/my run/gguf"],
        ["ollama", "create", "tiny-q8_0", "-f", "tiny-q8_0.Modelfile"],
        ["ollama", "run", "tiny-q8_0", QUESTION],
    ]
