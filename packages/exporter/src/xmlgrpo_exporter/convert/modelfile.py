"""How to run a GGUF elsewhere: a Modelfile for Ollama, one line for llama.cpp.

Ollama has its own template language, and hand-written templates for Gemma tend to make the system
text a user turn of its own, which training never did.  So the template is read off the model's own:
its renderings of sample messages are cut at the messages.
"""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

SYSTEM, USER, ANSWER = "\u0001system\u0001", "\u0001user\u0001", "\u0001answer\u0001"


def ollama_template(render: Callable[..., str], bos: str) -> str:
    """The model's chat template in Ollama's language.

    Ollama adds the BOS itself, so it is cut off.

    Args:
        render: gives the text of messages, called with `add_generation_prompt`.
        bos: the BOS token's text; may be empty.
    """
    ask = [{"role": "user", "content": USER}]
    told = [{"role": "system", "content": SYSTEM}, *ask]
    before, after = render(ask, add_generation_prompt=True).split(USER)
    with_system = render(told, add_generation_prompt=True).split(USER)[0]
    opening, between = with_system.removeprefix(bos).split(SYSTEM)
    closing = render(
        [*ask, {"role": "assistant", "content": ANSWER}], add_generation_prompt=False
    ).split(ANSWER)[1]
    return (
        f"{{{{ if .System }}}}{opening}{{{{ .System }}}}{between}"
        f"{{{{ else }}}}{before.removeprefix(bos)}{{{{ end }}}}"
        f"{{{{ .Prompt }}}}{after}{{{{ .Response }}}}{closing}"
    )


def modelfile(file: str, tokenizer: Any, stop_ids: tuple[int, ...], system: str) -> str:
    """An Ollama Modelfile that asks as training asked, greedily.

    Args:
        file: name of the GGUF, in the same folder.
        tokenizer: the model's tokenizer.
        stop_ids: the ids that end a reply.
        system: the system message that training used; may be empty.
    """

    def render(messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        return str(
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )

    template = "{{ .Prompt }}"  # of a model that continues plain text
    if tokenizer.chat_template:
        template = ollama_template(render, tokenizer.bos_token or "")
    stops = "".join(
        f'PARAMETER stop "{text}"\n' for text in tokenizer.convert_ids_to_tokens(list(stop_ids))
    )
    return (
        f"# ollama create NAME -f {file.removesuffix('.gguf')}.Modelfile\n"
        f"FROM ./{file}\n"
        f'TEMPLATE """{template}"""\n'
        + (f'SYSTEM """{system}"""\n' if system else "")
        + "PARAMETER temperature 0\n"
        "PARAMETER repeat_penalty 1\n"
        f"{stops}"
    )


def llama_cpp_line(file: str, system: str, question: str, *, chat: bool) -> str:
    """A command that asks the file one question with llama.cpp's own program.

    In lines that fit a terminal, to be pasted as they stand.

    Args:
        file: path of the GGUF.
        system: the system message that training used; may be empty.
        question: what the user asks; of a file without a chat template, the text to continue.
        chat: whether the file has a chat template; else it continues the text.
    """
    file, prompt = shlex.quote(file), f"--prompt {shlex.quote(question)}"
    if not chat:
        parts = [f"llama-completion -m {file}", "-no-cnv --temp 0", prompt]
    else:
        told = [f"--system-prompt {shlex.quote(system)}"] if system else []
        parts = [f"llama-cli -m {file}", "--jinja --single-turn --temp 0", *told, prompt]
    return " \\\n  ".join(parts)


def ollama_line(folder: Path, file: str, question: str) -> str:
    """Commands that make a model of a GGUF in this folder, by its Modelfile, and ask it."""
    name = shlex.quote(file.removesuffix(".gguf"))
    return (
        f"cd {shlex.quote(str(folder))} &&\n  ollama create {name} -f {name}.Modelfile &&\n"
        f"  ollama run {name} \\\n    {shlex.quote(question)}"
    )


def system_of(messages: list[dict[str, str]]) -> str:
    """The system message of a chat; empty when it has none."""
    return next((m["content"] for m in messages if m["role"] == "system"), "")
