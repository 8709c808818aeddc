"""The checks of every evaluation, over tokenizers and models that err in known ways."""

from types import SimpleNamespace

import pytest
from lm_eval.api.instance import Instance

from xmlgrpo_evaluator.checks import check_batching, check_prompts, check_room
from xmlgrpo_rewards import reply
from xmlgrpo_rewards.errors import UserError

BOS = 2


class Bytes:
    """A tokenizer whose tokens are bytes, behind one BOS; and its chat template."""

    chat_template = "{{ messages }}"

    def __call__(self, text, **_options):
        return {"input_ids": [BOS, *text.encode()]}

    def apply_chat_template(self, chat, **options):
        return self.render(chat, options["add_generation_prompt"])

    @staticmethod
    def render(chat, add_generation_prompt=True):
        text = "".join(f"<{m['role']}>{m['content']}" for m in chat)
        return text + "<assistant>" * add_generation_prompt


def requests(count=3, limit=10):
    made = []
    for n in range(count):
        question = f"How many are {n} and {n}?"
        text = Bytes.render(reply.messages(question))
        doc = {"id": f"q{n}", "task": "gsm8k", "question": question, "user_text": question}
        made.append(Instance("generate_until", doc, (text, {"max_gen_toks": limit}), n))
    return made


def model(encode):
    return SimpleNamespace(tok_encode=encode, max_length=400)


def right(text):
    return [BOS, *text.encode()]


def test_equal_prompts_pass():
    check = check_prompts(requests(), model(right), Bytes(), BOS)
    assert (check.prompts, check.compared, check.identical) == (3, 3, 3)
    assert check.begins_with == {"1": 3}
    assert check.passed


@pytest.mark.parametrize(
    ("encode", "begins_with"),
    [
        pytest.param(lambda text: [BOS, BOS, *text.encode()], {"2": 3}, id="two-bos"),
        pytest.param(lambda text: list(text.encode()), {"0": 3}, id="no-bos"),
        pytest.param(lambda text: [*right(text), 9], {"1": 3}, id="something-after-the-prompt"),
        pytest.param(lambda text: right(text)[:-1], {"1": 3}, id="cut"),
        pytest.param(lambda text: right(text.lower()), {"1": 3}, id="another-tokenizer"),
    ],
)
def test_a_difference_is_found_and_shown(encode, begins_with):
    check = check_prompts(requests(), model(encode), Bytes(), BOS)
    assert check.identical == 0
    assert check.begins_with == begins_with
    assert check.first_difference is not None
    assert check.first_difference.startswith("item q0, token ")
    assert not check.passed


def test_without_a_training_tokenizer_nothing_is_claimed():
    check = check_prompts(requests(), model(right), None, BOS)
    assert check.compared == 0


def test_the_digest_is_of_the_tokens_in_any_order():
    forward = check_prompts(requests(), model(right), None, BOS)
    backward = check_prompts(requests()[::-1], model(right), None, BOS)
    assert forward.digest == backward.digest
    assert forward.digest != check_prompts(requests(2), model(right), None, BOS).digest


def test_a_prompt_that_would_have_to_be_cut_is_refused_before_the_start():
    asked = requests(limit=400)
    check = check_prompts(asked, model(right), None, BOS)
    with pytest.raises(UserError, match=r"reply may have 400.*more than the model's 400"):
        check_room(asked, model(right), check.longest)


GREEDY, SAMPLED = {"do_sample": False}, {"do_sample": True}


class Writer:
    """Answers alone as its table says."""

    def __init__(self, alone: dict[str, str]) -> None:
        self.alone, self.asked = alone, list[str]()

    def set_cache_hook(self, hook) -> None:
        self.hook = hook

    def generate_until(self, requests, disable_tqdm=False):
        [request] = requests
        self.asked.append(request.args[0])
        return [self.alone[request.args[0]]]


def samples(replies: dict[str, str], options=GREEDY):
    rows = [{"arguments": [(p, options)], "resps": [[reply]]} for p, reply in replies.items()]
    return {"t": rows}


SCORED = {"arguments": [("a", " b")], "resps": [[(-1.0, True)]]}
ROLLING = {"arguments": [("a whole text",)], "resps": [[-12.5]]}


@pytest.mark.parametrize(
    ("alone", "identical"),
    [
        pytest.param({"a": "1", "b": "2", "c": "3"}, 3, id="all-the-same"),
        pytest.param({"a": "1", "b": "9", "c": "3"}, 2, id="one-differs"),
        pytest.param({"a": "", "b": "", "c": ""}, 0, id="all-differ"),
    ],
)
def test_replies_alone_are_compared_with_those_in_batches(alone, identical):
    asked = samples({"a": "1", "b": "2", "c": "3"})
    assert check_batching(Writer(alone), asked, 3) == {"items": 3, "identical": identical}


def test_only_the_first_items_are_asked_again():
    writer = Writer({"a": "1", "b": "2"})
    assert check_batching(writer, samples({"a": "1", "b": "2"}), 1) == {"items": 1, "identical": 1}
    assert writer.asked == ["a"]


def test_tasks_that_are_scored_stand_beside_one_that_is_answered():
    mixed = {"choice": [SCORED], "perplexity": [ROLLING], **samples({"a": "1"})}
    assert check_batching(Writer({"a": "1"}), mixed, 4) == {"items": 1, "identical": 1}


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(samples({"a": "1"}, SAMPLED), id="sampled"),
        pytest.param({"t": [ROLLING, SCORED]}, id="scored"),
        pytest.param({"t": []}, id="nothing-asked"),
    ],
)
def test_where_nothing_can_be_compared_nothing_is_claimed(given):
    assert check_batching(Writer({}), given, 4) is None
