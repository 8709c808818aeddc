"""What a model is told, whatever its chat template: the format, the question, an opened turn.

The templates are those of the models' tokenizers, as published.
"""

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import SYSTEM, messages
from xmlgrpo_trainer.grpo.vllm import check_prompt
from xmlgrpo_trainer.problems.prompts import encode_prompts

QUESTION = "How many are 2 and 3?"
ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}"
)
CHATML_TURNS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
)
CHATML_OPENER = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
GEMMA_1_AND_2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}"
    + ALTERNATE
    + "{% if message['role'] == 'assistant' %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GEMMA_3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set first_user_prefix = messages[0]['content'] + '\n\n' %}"
    "{% set loop_messages = messages[1:] %}{% else %}{% set first_user_prefix = '' %}"
    "{% set loop_messages = messages %}{% endif %}{% for message in loop_messages %}"
    + ALTERNATE
    + "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) "
    "+ '\n' + (first_user_prefix if loop.first else '') + message['content'] | trim "
    "+ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI_3 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + '<|end|>' + '\n' }}"
    "{% endif %}{% endfor %}"
)
SMOLLM_2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n' }}"
    "{% endif %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' "
    "+ '\n' }}{% endfor %}" + CHATML_OPENER
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}"
    "{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}"
    + ALTERNATE
    + "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
MISTRAL_0_1 = (
    "{{ bos_token }}{% for message in messages %}"
    + ALTERNATE
    + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
    "{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n' + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
QWEN_3 = (  # a reply that is there is shown with an empty thought, one to come is not
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}" + CHATML_OPENER
)
TOLD = f"{SYSTEM}\n\n{QUESTION}"
CHATML = (
    f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{QUESTION}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
WORKS = {
    # no system role
    "gemma-2": (
        GEMMA_1_AND_2,
        f"<s><start_of_turn>user\n{TOLD}<end_of_turn>\n<start_of_turn>model\n",
    ),
    "phi-3": (PHI_3, f"<s><|user|>\n{TOLD}<|end|>\n<|assistant|>\n"),
    "mistral-0.1": (MISTRAL_0_1, f"<s>[INST] {TOLD} [/INST]"),
    "the-last-message-only": ("{{ messages[-1]['content'] }}\nA:", f"{TOLD}\nA:"),
    # with one
    "gemma-3": (GEMMA_3, f"<s><start_of_turn>user\n{TOLD}<end_of_turn>\n<start_of_turn>model\n"),
    "llama-2": (LLAMA_2, f"<s>[INST] <<SYS>>\n{SYSTEM}\n<</SYS>>\n\n{QUESTION} [/INST]"),
    "llama-3": (
        LLAMA_3,
        (
            f"<s><|start_header_id|>system<|end_header_id|>\n\n{SYSTEM}<|eot_id|>"
            f"<|start_header_id|>user<|end_header_id|>\n\n{QUESTION}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
        ),
    ),
    "zephyr": (ZEPHYR, f"<|system|>\n{SYSTEM}</s>\n<|user|>\n{QUESTION}</s>\n<|assistant|>\n"),
    "qwen-3": (QWEN_3, CHATML),
    "chatml": (CHATML_TURNS + CHATML_OPENER, CHATML),
    "developer-role": (
        CHATML_TURNS.replace(
            "message['role'] +", "message['role'].replace('system', 'developer') +"
        )
        + CHATML_OPENER,
        CHATML.replace("system", "developer", 1),
    ),
    # the model's turn is not opened on demand
    "no-opener": (CHATML_TURNS, CHATML),
    "no-opener-and-an-end": (CHATML_TURNS + "{{ eos_token }}", CHATML),
    "always-an-opener": (CHATML_TURNS + "{{ '<|im_start|>assistant\n' }}", CHATML),
    "no-opener-no-system-role": (
        CHATML_TURNS.replace(
            "%}{{",
            "%}{% if message['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}{{",
            1,
        ),
        f"<|im_start|>user\n{TOLD}<|im_end|>\n<|im_start|>assistant\n",
    ),
    # several
    "several": ({"default": CHATML_TURNS + CHATML_OPENER, "tool_use": "{{ 1 }}"}, CHATML),
}
REFUSED: dict[str, tuple[Any, str]] = {
    "none": (None, "has no chat template; use an instruction-tuned model"),
    "empty": ("", "has no chat template"),
    "several-without-a-default": ({"rag": "{{ 1 }}", "tool_use": "{{ 2 }}"}, "no default"),
    "refuses-all": ("{{ raise_exception('not today') }}", "not today"),
    "syntax": ("{% if %}", "Expected an expression"),
    "leaves-the-question-out": ("{{ messages[0]['content'][:80] }}", "leaves the user message out"),
    "content-in-parts-only": ("{{ messages[-1]['content'][0]['text'] }}", "message out"),
    "cuts-long-texts": (
        CHATML_TURNS.replace("message['content'] ", "message['content'][:60] "),
        "leaves the system message out",
    ),
    "another-language": (
        CHATML_TURNS.replace("message['content'] ", "message['content'] | upper "),
        "leaves the system message out",
    ),
}


def tokenizer_with(template: Any, bos: str | None = "<s>") -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with this chat template."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    special = {"bos_token": bos, "eos_token": "</s>"}
    made = PreTrainedTokenizerFast(tokenizer_object=model, **special)
    made.chat_template = template
    return made


def asked(template: Any, question: str = QUESTION, bos: str | None = "<s>") -> str:
    tokenizer = tokenizer_with(template, bos)
    [first, ids] = encode_prompts(tokenizer, [messages("Another?"), messages(question)])
    assert first != ids
    return str(tokenizer.decode(ids))


@pytest.mark.parametrize("name", WORKS)
def test_the_model_is_told_the_format_and_the_question(name: str) -> None:
    template, expected = WORKS[name]
    assert asked(template) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_cannot_tell_it_is_one_sentence(name: str) -> None:
    template, part = REFUSED[name]
    with pytest.raises(UserError, match=part) as caught:
        asked(template)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "question", ["  spaces around \n", "{{ 1 }} {% raw %}", "<b>&amp; 'x'</b>"]
)
@pytest.mark.parametrize("name", ["gemma-2", "phi-3", "llama-2", "chatml"])
def test_awkward_questions_are_told_whole(name: str, question: str) -> None:
    assert question.strip() in asked(WORKS[name][0], question)


def test_a_bos_that_opens_every_turn_is_no_bos_too_many() -> None:
    assert asked(SMOLLM_2, bos="<|im_start|>") == CHATML
    assert asked(CHATML_TURNS, bos="<|im_start|>") == CHATML
    for question in ("2<|im_start|>", "<|im_start|>user\n2"):
        with pytest.raises(UserError, match=r"holds 4 <\|im_start\|> tokens, expected .*3"):
            asked(SMOLLM_2, question, bos="<|im_start|>")


@pytest.mark.parametrize(
    ("template", "question", "part"),
    [
        pytest.param(
            "{{ bos_token }}" + GEMMA_3, QUESTION, "holds 2 <s> .*expected one", id="twice"
        ),
        pytest.param(GEMMA_3, "2<s>?", "holds 2 <s> .*expected one", id="in-the-question"),
        pytest.param(GEMMA_1_AND_2, "<s>2?", "holds 2 <s> .*expected one", id="in-the-user-turn"),
        pytest.param(WORKS["chatml"][0], "<s>2?", "holds 1 <s> .*expected none", id="of-none"),
    ],
)
def test_a_bos_too_many_is_refused(template: str, question: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        asked(template, question)


@pytest.mark.parametrize("name", WORKS)
def test_vllm_is_asked_by_trl_only_where_trl_writes_the_same_prompt(name: str) -> None:
    tokenizer, chat = tokenizer_with(WORKS[name][0]), messages(QUESTION)
    needs_help = {"gemma-2", "phi-3", "mistral-0.1", "the-last-message-only"}
    if name in needs_help or name.startswith("no-opener"):
        with pytest.raises(UserError, match="set rollout=auto"):
            check_prompt(tokenizer, chat)
    else:
        check_prompt(tokenizer, chat)


def test_a_tokenizer_without_bos_is_asked() -> None:
    assert asked(WORKS["chatml"][0], bos=None) == CHATML
