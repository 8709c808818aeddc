"""The front that keeps replies: over an lm-eval model that writes from a table."""

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from rich.console import Console

from xmlgrpo_evaluator.harness.resumable import ResumableLM
from xmlgrpo_evaluator.journal import CountedReply, open_journal
from xmlgrpo_evaluator.progress import Screen
from xmlgrpo_rewards.errors import UserError

GREEDY = {"until": ["x"], "do_sample": False, "max_gen_toks": 3}
SAMPLED = {"until": ["x"], "do_sample": True, "max_gen_toks": 3}


class Parrot(LM):  # type: ignore[misc]  # lm-eval is untyped
    """Answers with the prompt in capitals; breaks down after `patience` replies."""

    def __init__(self, patience=1000):
        super().__init__()
        self.patience, self.asked, self.seeds = patience, [], []

    def generate_until(self, requests, disable_tqdm=False):
        for request in reversed(requests):
            prompt, options = request.args
            if len(self.asked) == self.patience:
                raise KeyboardInterrupt
            self.asked.append(prompt)
            self.seeds.append(options.get("seed"))
            self.cache_hook.add_partial("generate_until", request.args, prompt.upper())
        return []

    def loglikelihood(self, requests):
        return [(-1.0, True)] * len(requests)

    def loglikelihood_rolling(self, requests):
        return [-1.0] * len(requests)

    def tok_encode(self, text, add_special_tokens=None):
        return list(text.encode())


def requests(prompts, options=GREEDY):
    return [
        Instance("generate_until", {"id": prompt}, (prompt, dict(options)), 0) for prompt in prompts
    ]


class Heard(Screen):
    """A screen that only listens."""

    def __init__(self):
        super().__init__(Console(quiet=True), "", quiet=True)
        self.replies, self.scores = [], 0

    def begin(self, requests, unreported=lambda: 0):
        pass

    def reply(self, request, reply, *, new=True):
        self.replies.append((request.args[0], reply, new))

    def scored(self):
        self.scores += 1


@pytest.fixture
def ask(tmp_path):
    def run(inner, asked, seeds_requests=True, seed=0, kind="generate_until"):
        heard = Heard()
        with open_journal(tmp_path / f"replies-{seed}.jsonl", {"s": 1}) as journal:
            front = ResumableLM(
                inner,
                journal,
                heard,
                check=lambda _requests: None,
                seed=seed,
                seeds_requests=seeds_requests,
            )
            return getattr(front, kind)(asked), heard.replies

    return run


def test_replies_come_in_the_order_of_the_requests(ask):
    replies, _ = ask(Parrot(), requests(["a", "b", "c"]))
    assert replies == ["A", "B", "C"]


def test_after_an_interruption_only_the_rest_is_asked(ask):
    with pytest.raises(KeyboardInterrupt):
        ask(Parrot(patience=2), requests(["a", "b", "c"]))
    second = Parrot()
    replies, heard = ask(second, requests(["a", "b", "c"]))
    assert second.asked == ["a"]
    assert replies == ["A", "B", "C"]
    assert [(prompt, new) for prompt, _, new in heard] == [("b", False), ("c", False), ("a", True)]


def test_a_finished_evaluation_asks_nothing(ask):
    ask(Parrot(), requests(["a", "b"]))
    again = Parrot()
    assert ask(again, requests(["a", "b"]))[0] == ["A", "B"]
    assert again.asked == []


def test_repeated_requests_are_told_apart_and_get_seeds_of_their_own(ask):
    first = Parrot(patience=3)
    with pytest.raises(KeyboardInterrupt):
        ask(first, requests(["a"] * 4, SAMPLED))
    second = Parrot()
    ask(second, requests(["a"] * 4, SAMPLED))
    seeds = first.seeds + second.seeds
    assert len(second.asked) == 1
    assert len(set(seeds)) == 4
    assert None not in seeds


def test_another_seed_of_the_run_gives_other_seeds(ask):
    one, other = Parrot(), Parrot()
    ask(one, requests(["a", "b"], SAMPLED), seed=1)
    ask(other, requests(["a", "b"], SAMPLED), seed=2)
    assert not set(one.seeds) & set(other.seeds)


def test_a_model_without_seeds_of_its_own_is_not_handed_one(ask):
    model = Parrot()
    ask(model, requests(["a", "a"], SAMPLED), seeds_requests=False)
    assert model.seeds == [None, None]


def test_plain_replies_are_counted_by_tokenizing_them_again(ask):
    replies, _ = ask(Parrot(), requests(["ab", "abc"]))
    assert all(isinstance(reply, CountedReply) for reply in replies)
    assert [(r.tokens, r.truncated) for r in replies] == [(2, False), (3, True)]


def test_a_request_without_a_reply_is_no_shorter_list(ask):
    class Silent(Parrot):
        def generate_until(self, requests, disable_tqdm=False):
            return super().generate_until(requests[1:])

    with pytest.raises(RuntimeError, match="gave 2 replies to 3 requests"):
        ask(Silent(), requests(["a", "b", "c"]))


def test_scoring_goes_straight_through(ask):
    assert ask(Parrot(), requests(["a"]), kind="loglikelihood")[0] == [(-1.0, True)]
    assert ask(Parrot(), requests(["a"]), kind="loglikelihood_rolling")[0] == [-1.0]


class NoSystemRole:
    """A tokenizer of transformers, as far as a template is asked: Gemma 2's refusal, no options."""

    chat_template: str | None = "{{ messages }}"

    def apply_chat_template(self, chat, *, tokenize, add_generation_prompt, **options):
        assert not tokenize
        if chat[0]["role"] == "system":
            raise ValueError("System role not supported")
        turns = "".join(f"<{m['role']}>{m['content']}" for m in chat)
        return turns + "".join(options) + "<model>" * add_generation_prompt


class Dropping(Parrot):
    """Drops what the template refuses, as lm-eval's models do."""

    def __init__(self):
        super().__init__()
        self.tokenizer, self.chat_template_args = NoSystemRole(), {"enable_thinking": False}

    def apply_chat_template(self, chat, add_generation_prompt=True):
        return "".join(m["content"] for m in chat if m["role"] != "system")


def front_of(inner, tmp_path):
    with open_journal(tmp_path / "replies.jsonl", {"s": 1}) as journal:
        return ResumableLM(
            inner, journal, Heard(), check=lambda _: None, seed=0, seeds_requests=True
        )


def test_a_chat_is_written_whole_where_lm_eval_would_drop_its_instructions(tmp_path):
    inner = Dropping()
    lm = front_of(inner, tmp_path)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2?"}]
    assert lm.apply_chat_template(chat) == "<user>Be brief.\n\n2?enable_thinking<model>"
    inner.tokenizer.chat_template = None
    with pytest.raises(UserError, match=r"no chat template.*xmlgrpo-eval run --no-chat-template"):
        lm.apply_chat_template(chat)
    del inner.tokenizer  # a model that renders by itself, such as a GGUF
    with pytest.raises(UserError, match="leaves the system message out"):
        lm.apply_chat_template([*chat[:1], {"role": "system", "content": "!"}])
    assert lm.apply_chat_template(chat[1:]) == "2?"
    assert lm.apply_chat_template(chat) == "Be brief.\n\n2?"
