"""A chat template is a program: one that loops is stopped, and the words say so."""

import signal

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run import prompt
from xmlgrpo_run.prompt import write_prompt

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
