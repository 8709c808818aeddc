import pytest

from xmlgrpo_gguf.context import DecodingContext
from xmlgrpo_gguf.engine import GgufSampling, Prompt, engine_for, shared_prefix
from xmlgrpo_gguf.model import GgufModel
from xmlgrpo_gguf.scoring import score
from xmlgrpo_rewards import reply

from ..tiny_model import rows


def with_model(test):
    return pytest.mark.gguf(pytest.mark.slow(test))


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        pytest.param([[1, 2, 3]], 0, id="one-prompt-shares-nothing"),
        pytest.param([[1, 2, 3], [1, 2, 4]], 2, id="differ-at-the-end"),
        pytest.param([[1, 2], [1, 2]], 1, id="equal-prompts-keep-their-last-token"),
        pytest.param([[1, 2, 3], [1, 2]], 1, id="one-is-the-start-of-the-other"),
        pytest.param([[1, 2], [3, 4]], 0, id="nothing-in-common"),
        pytest.param([[5, 1, 9], [5, 2, 9], [5, 1, 8]], 1, id="three"),
    ],
)
def test_shared_prefix(prompts, expected):
    assert shared_prefix(prompts) == expected


@pytest.fixture(scope="module")
def model(tiny_gguf):
    with GgufModel(tiny_gguf) as model:
        yield model


@pytest.fixture(scope="module")
def prompts(model, tiny):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    chats = [reply.messages(row["question"]) for row in rows()]
    texts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
    return [Prompt(model.tokenize(text), 48, (b"<end_of_turn>",)) for text in texts]


def write(model, prompts, slots):
    with engine_for(model, prompts, slots=slots, threads=1) as engine:
        return engine.write(prompts)


@with_model
@pytest.mark.parametrize("slots", [1, 3, 16])
def test_the_independent_slow_loop_writes_the_same(model, prompts, tiny_gguf, slots):
    """llama-cpp-python's own high-level loop, one sequence at a time."""
    from llama_cpp import Llama

    slow = Llama(str(tiny_gguf), n_ctx=512, n_threads=1, verbose=False)
    expected = []
    for prompt in prompts:
        slow.reset()
        written = b""
        for token in slow.generate(prompt.tokens, temp=0.0):
            if model.ends_generation(token):
                break
            written += model.piece(token)
        expected.append(written.decode())
    slow.close()
    assert [w.text for w in write(model, prompts, slots)] == expected


@with_model
def test_a_reply_ends_where_the_model_ends_it(model, prompts):
    for written, row in zip(write(model, prompts, 4), rows(), strict=True):
        assert written.finish == "end"
        gold = row["answer"].split("#### ")[1]
        assert reply.parse(written.text).answer == gold


@with_model
def test_a_reply_is_cut_at_its_limit(model, prompts):
    short = [Prompt(p.tokens, max_new=5) for p in prompts]
    assert {(w.finish, w.tokens) for w in write(model, short, 4)} == {("length", 5)}


@with_model
def test_a_stop_string_is_cut_off(model, prompts):
    stopped = [Prompt(p.tokens, 48, (b"</reasoning>",)) for p in prompts]
    for written in write(model, stopped, 4):
        assert written.finish == "stop"
        assert written.text.startswith("<reasoning>")
        assert "</reasoning>" not in written.text


@with_model
def test_samples_depend_on_the_seed_and_not_on_the_batch(model, prompts):
    def sampled(seed):
        return [
            Prompt(p.tokens, 24, p.stops, GgufSampling(5.0, top_k=50, top_p=0.99, seed=seed + i))
            for i, p in enumerate(prompts)
        ]

    one, other = write(model, sampled(7), 2), write(model, sampled(8), 2)
    assert one == write(model, sampled(7), 12)
    assert [w.text for w in one] != [w.text for w in other]


@with_model
def test_a_long_shared_prefix_is_more_than_the_window(model, prompts):
    """Longer than the sliding window of 64: cells must be kept, or decoding fails."""
    long = prompts[0].tokens[:-1] * 2
    many = [Prompt([*long, *p.tokens[1:]], 16) for p in prompts]
    alone = [write(model, [p], 1)[0].text for p in many[:3]]
    assert [w.text for w in write(model, many, 8)][:3] == alone


@with_model
def test_scores_agree_with_transformers(model, prompts, tiny):
    import torch
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(tiny.base, dtype=torch.float32)
    context = prompts[0].tokens
    right = model.tokenize("<reasoning>\n2+3=5", add_bos=False)
    wrong = model.tokenize("Ann has 7 hats.", add_bos=False)
    with DecodingContext(model, slots=2, context=512, threads=1) as decoding:
        scored = score(decoding, context, [right, wrong, right[:1]])
    for one, continuation in zip(scored, (right, wrong, right[:1]), strict=True):
        ids = torch.tensor([[*context, *continuation]])
        with torch.no_grad():
            logits = reference(ids).logits[0, len(context) - 1 : -1].log_softmax(-1)
        expected = logits.gather(1, torch.tensor(continuation)[:, None]).sum().item()
        assert one.logprob == pytest.approx(expected, rel=2e-3, abs=2e-3)
        assert one.is_greedy == (logits.argmax(-1).tolist() == continuation)
