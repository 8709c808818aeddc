"""A chat template is a program: one that loops or grows is stopped, and the words say so."""

import resource
import signal

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run import prompt
from xmlgrpo_run.prompt import rendered, write_prompt

CHAT = [{"role": "user", "content": "1+1?"}]
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
TURN = "{{ messages[0].content }}"


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(LOOP, id="always"),
        pytest.param(f"{{% if add_generation_prompt %}}{LOOP}{{% endif %}}{TURN}", id="for-a-turn"),
    ],
)
def test_a_template_that_loops_is_stopped(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt, "RENDER_CPU_S", 0.05)
    loop = ImmutableSandboxedEnvironment().from_string(template)

    with pytest.raises(UserError, match=r"cannot write the question.*for over 0\.05 s"):
        write_prompt(lambda chat, **options: loop.render(messages=chat, **options), CHAT)

    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)
    assert signal.getsignal(signal.SIGVTALRM) == signal.SIG_DFL


def test_a_template_that_loops_only_to_open_the_turn_writes_the_prompt_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prompt, "RENDER_CPU_S", 0.05)
    template = f"{{% if not add_generation_prompt %}}{LOOP}{{% endif %}}{TURN}"
    loop = ImmutableSandboxedEnvironment().from_string(template)
    written = write_prompt(lambda chat, **options: loop.render(messages=chat, **options), CHAT)
    assert written.text == "1+1?"


GROWTH = [
    pytest.param("{{ 'a' * 10**10 }}", "takes over 128 MiB", id="one-text"),
    pytest.param("{{ [0] * 10**9 }}", "takes over 128 MiB", id="one-list"),
    pytest.param(
        "{% set n = namespace(t='ab' * 1000) %}{% for i in range(40) %}{% set n.t = n.t + n.t %}"
        "{% endfor %}{{ n.t }}",
        "takes over 128 MiB",
        id="doubled",
    ),
    pytest.param("{% for i in range(50000) %}{{ 'x' * 100000 }}{% endfor %}", "takes", id="pieces"),
    pytest.param("{{ '%1000000000d' % 1 }}", "takes over 128 MiB", id="padding"),
    pytest.param("{{ 'a' * 10**7 }}" + TURN, "writes one chat in 10,000,004 char", id="long"),
]


@pytest.mark.parametrize(("template", "says"), GROWTH)
def test_a_template_that_grows_is_stopped(
    template: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt, "RENDER_CPU_S", 60.0)  # that it grows stops it, on any machine

    def render(chat: object, **options: object) -> str:
        grows = ImmutableSandboxedEnvironment().from_string(template)  # which computes constants
        return grows.render(messages=chat, **options)

    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(UserError, match=says):
        write_prompt(render, CHAT)
    with pytest.raises(UserError, match=f"damaged or hostile: .*{says}"):
        rendered(render, CHAT)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
