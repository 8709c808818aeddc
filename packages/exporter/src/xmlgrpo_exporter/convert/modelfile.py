"""How to run a GGUF elsewhere: a Modelfile for Ollama, one line for llama.cpp.

Ollama has its own template language, and hand-written templates for Gemma tend to make the system
text a user turn of its own, which training never did.  So the template is read off the model's own:
its renderings of sample messages are cut at the messages.
"""

import shlex
from collections.abc import Iterable
from pathlib import Path

from xmlgrpo_gguf.header import GgufHeader
from xmlgrpo_gguf.template import Template, renderer
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.prompt import Render, rendered, write_prompt

SYSTEM, USER, ANSWER = "\u0001system\u0001", "\u0001user\u0001", "\u0001answer\u0001"


def ollama_template(render: Render, bos: str) -> str:
    """The model's chat template in Ollama's language, without the BOS, which Ollama adds itself.

    Args:
        render: of the model; a system text that it has no role for begins the user's.
        bos: the BOS token's text; may be empty.
    """
    ask = [{"role": "user", "content": USER}]
    before, after = write_prompt(render, ask).text.split(USER)
    chat = [{"role": "system", "content": SYSTEM}, *ask]
    with_system = write_prompt(render, chat).text.split(USER)[0]
    opening, between = with_system.removeprefix(bos).split(SYSTEM)
    answered = [*ask, {"role": "assistant", "content": ANSWER}]
    closing = rendered(render, answered, add_generation_prompt=False).split(ANSWER)[1]
    return (
        f"{{{{ if .System }}}}{opening}{{{{ .System }}}}{between}"
        f"{{{{ else }}}}{before.removeprefix(bos)}{{{{ end }}}}"
        f"{{{{ .Prompt }}}}{after}{{{{ .Response }}}}{closing}"
    )


def modelfile(file: str, header: GgufHeader, stop_ids: Iterable[int], system: str) -> str:
    """An Ollama Modelfile, for a GGUF in the same folder, that asks as training asked, greedily.

    Without a chat template the question is a text that is continued.

    Args:
        header: the file's; the gates have seen that template and ids are the model's.

    Raises:
        UserError: the file's template writes no chat, or its vocabulary lacks such an id.
    """
    bos, jinja = header.token_text("bos"), header.metadata.get("tokenizer.chat_template")
    template = "{{ .Prompt }}"
    try:
        stops = [header.tokens[token] for token in stop_ids]
        if isinstance(jinja, str):
            known = Template(jinja, bos, header.token_text("eos"))
            template = ollama_template(renderer(known), bos)
    except (IndexError, ValueError) as error:
        raise UserError(f"{file}: no Modelfile can be made of it ({error})") from None
    lines = [
        f"# ollama create NAME -f {file.removesuffix('.gguf')}.Modelfile",
        f"FROM ./{file}",
        f'TEMPLATE """{template}"""',
        *([f'SYSTEM """{system}"""'] if system else []),
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1",
        *(f'PARAMETER stop "{text}"' for text in stops),
    ]
    return "\n".join(lines) + "\n"


def llama_cpp_line(file: str, system: str, question: str, *, chat: bool) -> str:
    """A command that asks the file one question with llama.cpp's own program, to be pasted.

    Without a chat template (`chat`) the question is a text that the file continues.
    """
    file, prompt = shlex.quote(file), f"--prompt \\\n    {shlex.quote(question)}"
    if not chat:
        parts = [f"llama-completion -m {file}", "-no-cnv --temp 0", prompt]
    else:
        options = [f"--system-prompt {shlex.quote(system)}"] if system else []
        parts = [f"llama-cli -m {file}", "--jinja --single-turn --temp 0", *options, prompt]
    return " \\\n  ".join(parts)


def ollama_line(folder: Path, file: str, question: str) -> str:
    """Commands that make a model of a GGUF in this folder, by its Modelfile, and ask it."""
    name = shlex.quote(file.removesuffix(".gguf"))
    return (
        f"cd {shlex.quote(str(folder))} &&\n  ollama create {name} -f {name}.Modelfile &&\n"
        f"  ollama run {name} \\\n    {shlex.quote(question)}"
    )
