"""An HF model answered by the engine, against lm-eval's own path: the same replies and lengths."""

from typing import Any

import pytest

from xmlgrpo_evaluator.journal import CountedReply, EngineUse
from xmlgrpo_rewards import reply
from xmlgrpo_rewards.errors import UserError

from ..tiny_model import rows

pytestmark = [
    pytest.mark.slow,
    # lm-eval and datasets leave files open and use what newer libraries deprecate
    pytest.mark.filterwarnings("default"),
]

CASES = [
    pytest.param({"until": ["<end_of_turn>"]}, {}, id="as-our-task-asks"),
    pytest.param({}, {}, id="no-stop-string"),
    pytest.param({"until": ["</reasoning>"]}, {}, id="stop-string-of-several-tokens"),
    pytest.param({"until": ["</reasoning>", "+"]}, {}, id="and-one-of-one-token"),
    pytest.param({"until": ["never written"]}, {}, id="stop-string-that-does-not-come"),
    pytest.param({"max_gen_toks": 7}, {}, id="cut-off-at-the-limit"),
    pytest.param({"max_gen_toks": 1}, {}, id="one-token"),
    pytest.param({"max_gen_toks": 40}, {"max_length": 80}, id="prompts-cut-from-the-left"),
    pytest.param({"do_sample": True, "temperature": 1.0, "top_k": 1}, {}, id="top-1-is-greedy"),
    pytest.param({"num_beams": 2}, {}, id="left-to-lm-eval"),
]


class Heard:
    """A cache hook that keeps what it is handed."""

    def __init__(self):
        self.replies = {}

    def add_partial(self, attr, req, res):
        assert isinstance(res, CountedReply)
        self.replies[req[0]] = (str(res), res.tokens, res.truncated)


def opened_lm(tiny, *, adapted=False, **options):
    from xmlgrpo_evaluator.harness.hf import CountedHF

    uses: list[EngineUse] = []
    settings: dict[str, Any] = {"batch_size": 5, "device": "cpu", "dtype": "float32", "slots": 5}
    lm = CountedHF(
        pretrained=str(tiny.base),
        peft=str(tiny.adapter) if adapted else None,
        on_engine=uses.append,
        **(settings | options),
    )
    return lm, uses


def asked(lm, *all_options):
    """One request for each problem and set of options, as lm-eval would make it."""
    from lm_eval.api.instance import Instance

    texts = [lm.apply_chat_template(reply.messages(row["question"])) for row in rows()]
    return [
        Instance("generate_until", {}, (text, {"max_gen_toks": 48, **options}), 0)
        for options in all_options
        for text in texts
    ]


def answers(lm, requests):
    heard = Heard()
    lm.set_cache_hook(heard)
    replies = lm.generate_until(requests, disable_tqdm=True)
    return replies, heard.replies


@pytest.mark.parametrize(("options", "model_args"), CASES)
def test_the_replies_are_those_of_lm_eval(tiny, options, model_args):
    check_alike(tiny, options, model_args, adapted=False)


@pytest.mark.parametrize(("options", "model_args"), CASES[:3])
def test_the_replies_with_an_adapter_are_those_of_lm_eval(tiny, options, model_args):
    check_alike(tiny, options, model_args, adapted=True)


def check_alike(tiny, options, model_args, *, adapted):
    ours, uses = opened_lm(tiny, adapted=adapted, **model_args)
    theirs, _ = opened_lm(tiny, adapted=adapted, engine="generate", **model_args)
    replies, counted = answers(ours, asked(ours, options))
    expected, expected_counted = answers(theirs, asked(theirs, options))
    assert replies == expected
    if "</reasoning>" not in options.get("until", ()):  # lm-eval's rows go on past such a stop
        assert counted == expected_counted
    [use] = uses
    assert use.name == ("generate" if "num_beams" in options else "graph")
    assert len(set(replies)) > 1 or options.get("max_gen_toks") == 1


def test_one_special_stop_that_is_no_end_of_the_model_ends_a_reply(tiny):
    """lm-eval leaves it out of the text and writes on until the whole batch has ended."""
    ours, _ = opened_lm(tiny)
    theirs, _ = opened_lm(tiny, engine="generate", batch_size=1)
    for lm in (ours, theirs):
        lm.model.generation_config.eos_token_id = 1
    options = {"until": ["<end_of_turn>"]}
    assert answers(ours, asked(ours, options)) == answers(theirs, asked(theirs, options))


def test_requests_of_several_kinds_come_back_in_order(tiny):
    lm, uses = opened_lm(tiny)
    kinds: tuple[dict[str, Any], ...] = ({"until": ["+"]}, {"num_beams": 2}, {})
    replies, _ = answers(lm, asked(lm, *kinds))
    for number, options in enumerate(kinds):
        alone, _ = answers(lm, asked(lm, options))
        assert replies[number * len(alone) : (number + 1) * len(alone)] == alone
    assert [use.name for use in uses[:3]] == ["graph", "generate", "graph"]


@pytest.mark.parametrize(
    ("model_args", "options", "reason"),
    [
        pytest.param({"engine": "generate"}, {}, "asked for", id="asked-for"),
        pytest.param({"mixed_precision_dtype": "bfloat16"}, {}, "mixed_precision", id="autocast"),
        pytest.param({"think_end_token": "x"}, {}, "think_end_token", id="thinking"),
        pytest.param({}, {"repetition_penalty": 1.2}, "repetition_penalty=1.2", id="penalty"),
    ],
)
def test_it_says_why_lm_eval_answers(tiny, model_args, options, reason):
    lm, uses = opened_lm(tiny, **model_args)
    answers(lm, asked(lm, {"max_gen_toks": 2, **options}))
    [use] = uses
    assert (use.name, use.at_once) == ("generate", 5)
    assert reason in use.reason


def test_an_engine_that_was_asked_for_and_cannot_answer_is_an_error(tiny):
    lm, uses = opened_lm(tiny, engine="graph")
    with pytest.raises(UserError, match=r"--engine graph cannot answer.*num_beams=2"):
        answers(lm, asked(lm, {}, {"num_beams": 2}))
    assert uses == [], "nothing is asked before"


def test_replies_are_handed_on_batch_by_batch(tiny):
    lm, _ = opened_lm(tiny)
    handed = []

    class Impatient:
        def add_partial(self, attr, req, res):
            handed.append(req[0])
            if len(handed) == 6:
                raise KeyboardInterrupt

    lm.set_cache_hook(Impatient())
    drawn = []
    lm._chosen((1, lm.tokenizer.convert_tokens_to_ids("<end_of_turn>")))
    engine = lm._choice.engine
    complete = engine._complete

    def counted(prompts, *rest):
        drawn.append(len(prompts))
        return complete(prompts, *rest)

    engine._complete = counted
    with pytest.raises(KeyboardInterrupt):
        lm.generate_until(asked(lm, {}), disable_tqdm=True)
    assert drawn == [5, 5], "the third batch of five was not begun"


def test_scoring_stays_lm_evals(tiny):
    from lm_eval.api.instance import Instance

    lm, uses = opened_lm(tiny, engine="graph")
    [(logprob, _)] = lm.loglikelihood([Instance("loglikelihood", {}, ("a", " b"), 0)])
    assert logprob < 0
    assert uses == []


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("adapted", [False, True], ids=["base", "lora"])
def test_on_a_gpu(tiny, dtype, adapted):
    device = {"device": "cuda", "dtype": dtype, "adapted": adapted}
    ours, uses = opened_lm(tiny, **device)
    theirs, _ = opened_lm(tiny, engine="generate", **device)
    options = {"until": ["<end_of_turn>"]}
    replies, counted = answers(ours, asked(ours, options))
    expected, expected_counted = answers(theirs, asked(theirs, options))
    assert [use.name for use in uses] == ["graph"]
    if dtype == "float32":
        assert (replies, counted) == (expected, expected_counted)
    # in 16 bits a near tie may turn; what the base was taught has none
    same = sum(a == b for a, b in zip(replies, expected, strict=True))
    assert same >= (len(rows()) // 2 if adapted else len(rows()) - 1)
