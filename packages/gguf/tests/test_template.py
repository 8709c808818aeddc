"""A chat template is a program: it costs a child process at most."""

import pytest

from xmlgrpo_gguf.model import GgufModel
from xmlgrpo_gguf.template import ChatTemplate
from xmlgrpo_rewards.errors import UserError

from .hand_made import LOOP, write_gguf

pytestmark = pytest.mark.gguf


def chat(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


@pytest.fixture
def template_of(tmp_path):
    """The renderer of a file with this template."""

    def make(template: str | None, cpu_s: int = 10) -> ChatTemplate:
        path = write_gguf(tmp_path / "m.gguf", template=template)
        with GgufModel(path, vocab_only=True) as model:
            renderer = ChatTemplate(model, cpu_s)
            model.bos_text, model.token_text(model.eos), model.chat_template  # read while open
        return renderer

    return make


@pytest.mark.parametrize(
    ("template", "add_generation_prompt", "expected"),
    [
        pytest.param("{{ bos_token }}a{{ eos_token }}", True, "<s>a</s>", id="own-tokens"),
        pytest.param("{{ messages[0].content }}", True, "caf\u00e9\u2028\n\U0001f600", id="text"),
        pytest.param(
            "{{ messages[0].content }}{% if not add_generation_prompt %}</s>\n{% endif %}",
            False,
            "caf\u00e9\u2028\n\U0001f600",
            id="the-last-message-goes-on",
        ),
    ],
)
def test_chats_are_rendered_as_transformers_does(
    template_of, template, add_generation_prompt, expected
):
    renderer = template_of(template)
    for _ in range(2):
        role = "user" if add_generation_prompt else "assistant"
        said = [{"role": role, "content": "caf\u00e9\u2028\n\U0001f600"}]
        rendered = renderer.render(said, add_generation_prompt=add_generation_prompt)
        assert rendered == expected


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        pytest.param(LOOP, "does not finish a chat", id="endless"),
        pytest.param("{{ 1 / 0 }}", "cannot be rendered .Zero", id="python-error"),
        pytest.param("{{ raise_exception('no') }}", "rendered .TemplateError: no", id="refuses"),
        pytest.param("{{ ''.__class__.__mro__ }}", "rendered .SecurityError", id="reaching-out"),
        pytest.param("{{ 'a' * 20000000 }}", "it writes 20000007 characters", id="too-long"),
        pytest.param("{{ 'a' * 30000000000 }}", "rendered .MemoryError", id="memory"),
    ],
)
def test_a_template_that_behaves_over_one_chat_only_costs_the_child(template_of, rest, message):
    """It may wait for the real chat, or for its second rendering."""
    evasive = "{% if messages[0].content == 'real' %}" + rest + "{% endif %}{{ bos_token }}fine"
    template = template_of(evasive, cpu_s=2)
    assert template.render(chat("another"), add_generation_prompt=True) == "<s>fine"
    with pytest.raises(UserError, match=message):
        template.render(chat("real"), add_generation_prompt=True)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        pytest.param("{% if %}", "cannot be rendered .TemplateSyntaxError", id="syntax"),
        pytest.param(None, "has no chat template", id="none"),
    ],
)
def test_a_template_that_is_none(template_of, template, message):
    with pytest.raises(UserError, match=message):
        template_of(template).render(chat("real"), add_generation_prompt=True)
