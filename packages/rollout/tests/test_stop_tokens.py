"""A reply ends at every token that could end it: one that is missed runs to the length limit."""

from types import SimpleNamespace

import pytest

from xmlgrpo_rollout.stop_tokens import stop_ids

GEMMA = {"<unk>": 3, "<eos>": 1, "<end_of_turn>": 106}
QWEN_BASE = {"<|endoftext|>": 10, "<|im_start|>": 11, "<|im_end|>": 12}
LLAMA_BASE = {"<|end_of_text|>": 20, "<|eot_id|>": 29}
OTHER = {"<unk>": 0, "</s>": 2}


class Tokenizer:
    """What is asked of a tokenizer: its EOS, and the id of a token."""

    def __init__(self, vocabulary: dict[str, int], eos: int | None, unk: int | None) -> None:
        self.vocabulary, self.eos_token_id, self.unk_token_id = vocabulary, eos, unk

    def convert_tokens_to_ids(self, token: str) -> int | None:
        return self.vocabulary.get(token, self.unk_token_id)


@pytest.mark.parametrize(
    ("tokenizer", "configured", "ids"),
    [
        pytest.param(Tokenizer(GEMMA, 1, 3), [1, 106], [1, 106], id="gemma"),
        pytest.param(Tokenizer(GEMMA, 1, 3), None, [1, 106], id="nothing-configured"),
        pytest.param(Tokenizer(GEMMA, None, None), 1, [1, 106], id="no-eos-no-unknown"),
        pytest.param(Tokenizer(QWEN_BASE, 10, None), 10, [10, 12], id="qwen-base"),
        pytest.param(Tokenizer(LLAMA_BASE, 20, None), [20, 28, 29], [20, 28, 29], id="llama"),
        pytest.param(Tokenizer(LLAMA_BASE, 20, None), 20, [20, 29], id="llama-base"),
        pytest.param(Tokenizer(OTHER, 2, 0), [2, 32000], [2, 32000], id="another-model"),
        pytest.param(Tokenizer(OTHER, 2, None), 2, [2], id="no-such-token"),
    ],
)
def test_all_that_could_end_a_reply(tokenizer, configured, ids):
    assert stop_ids(configured, tokenizer) == ids
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=configured))
    assert stop_ids(model, tokenizer) == ids
