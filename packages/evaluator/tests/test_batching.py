"""The check that batches change no answer, over a model that lets them change some."""

import pytest

from xmlgrpo_evaluator.harness.batching import check_batching

GREEDY, SAMPLED = {"do_sample": False}, {"do_sample": True}


class Writer:
    """Answers alone as its table says."""

    def __init__(self, alone: dict[str, str]) -> None:
        self.slots, self.alone, self.asked = 8, alone, []

    def set_cache_hook(self, hook) -> None:
        self.hook = hook

    def generate_until(self, requests, disable_tqdm=False):
        assert self.slots == 1
        self.asked += [request.args[0] for request in requests]
        return [self.alone[request.args[0]] for request in requests]


def samples(replies: dict[str, str], options=GREEDY):
    return {
        "t": [{"arguments": [(p, options)], "resps": [[reply]]} for p, reply in replies.items()]
    }


@pytest.mark.parametrize(
    ("alone", "identical"),
    [
        pytest.param({"a": "1", "b": "2", "c": "3"}, 3, id="all-the-same"),
        pytest.param({"a": "1", "b": "9", "c": "3"}, 2, id="one-differs"),
        pytest.param({"a": "", "b": "", "c": ""}, 0, id="all-differ"),
    ],
)
def test_replies_alone_are_compared_with_those_in_batches(alone, identical):
    model = Writer(alone)
    found = check_batching(model, samples({"a": "1", "b": "2", "c": "3"}), 3)
    assert found == {"items": 3, "identical": identical}
    assert model.slots == 8


def test_only_the_first_items_are_asked_again():
    model = Writer({"a": "1", "b": "2"})
    assert check_batching(model, samples({"a": "1", "b": "2"}), 1) == {"items": 1, "identical": 1}
    assert model.asked == ["a"]


@pytest.mark.parametrize(
    ("model", "given"),
    [
        pytest.param(Writer({}), samples({"a": "1"}, SAMPLED), id="sampled"),
        pytest.param(object(), samples({"a": "1"}), id="no-batch-size"),
        pytest.param(Writer({}), {"t": []}, id="nothing-asked"),
    ],
)
def test_where_nothing_can_be_compared_nothing_is_claimed(model, given):
    assert check_batching(model, given, 4) is None
