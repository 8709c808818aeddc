"""Every family that the recipe knows, against transformers: the same logits, the same tokens."""

from typing import Any

import pytest
import torch

from small_models import (
    END_OF_TURN,
    EOS,
    FAMILIES,
    PAD,
    VOCABULARY,
    WINDOW,
    disturb,
    prompts_of,
    tiny,
    tiny_gemma,
    with_lora,
)
from xmlgrpo_rollout.cpu.cache import prefill
from xmlgrpo_rollout.cpu.engine import StaticEngine
from xmlgrpo_rollout.engine import Sampling, left_padded
from xmlgrpo_rollout.forward import last_logits
from xmlgrpo_rollout.generate import GenerateEngine
from xmlgrpo_rollout.weights import read_rope, read_weights

LENGTHS = [
    *range(1, 13),
    3 * WINDOW,
    33,
]  # around the window, past it, past rotary training lengths


def made(family: str) -> Any:
    return tiny_gemma(attention_bias=True) if family == "gemma-with-biases" else tiny(family)


@pytest.fixture(params=[*FAMILIES, "gemma-with-biases"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_logits_are_those_of_transformers_at_every_length(family: str) -> None:
    model, prompts = made(family), prompts_of(LENGTHS)
    padded, padding = left_padded(prompts, PAD)
    padding_R, length = torch.tensor(padding), len(padded[0])
    with torch.no_grad():
        weights = read_weights(model)
        _, attend = prefill(padding_R, length, weights.recipe)
        places_R_T = (torch.arange(length) - padding_R[:, None]).clamp(min=0)
        rope = read_rope(model, length)
        logits_R_V = last_logits(weights, rope, torch.tensor(padded), places_R_T, attend)
        alone = [model(torch.tensor([prompt])).logits[0, -1] for prompt in prompts]
    found, expected = (logits.log_softmax(-1) for logits in (logits_R_V, torch.stack(alone)))
    assert (found - expected).abs().max() < 1e-4
    assert expected.exp().max() < 0.999  # or nothing would be seen of the logits


def test_greedy_completions_are_those_of_transformers(family: str) -> None:
    model = with_lora(made(family), target_modules="all-linear")
    engine = StaticEngine(model, [EOS, END_OF_TURN], PAD)
    generate = GenerateEngine(model, [EOS, END_OF_TURN], PAD)
    prompts, sampling = prompts_of(LENGTHS), Sampling(WINDOW + 6, temperature=0.0)
    found = engine(prompts, 1, sampling)
    assert found == generate(prompts, 1, sampling)
    assert engine(prompts[4:5], 2, sampling) == [found[4]] * 2  # alone as among others
    assert len({token for completion in found for token in completion.tokens}) > 10


def test_every_token_may_be_the_one_that_stops(family: str) -> None:
    stops = list(range(7, VOCABULARY, 3))
    model = made(family)
    prompts, sampling = prompts_of(LENGTHS[::3]), Sampling(WINDOW, temperature=0.0)
    found = StaticEngine(model, stops, PAD)(prompts, 1, sampling)
    assert found == GenerateEngine(model, stops, PAD)(prompts, 1, sampling)
    assert any(completion.tokens[-1] in stops for completion in found)


def test_a_refresh_takes_over_all_that_may_have_changed(family: str) -> None:
    model = with_lora(made(family), bias="all")  # peft then trains the base's biases, too
    engine = StaticEngine(model, [EOS], PAD)
    disturb(model, seed=9)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    engine.refresh()
    fresh = StaticEngine(model, [EOS], PAD)
    prompts, sampling = prompts_of([5, 9]), Sampling(12, temperature=0.0)
    assert engine(prompts, 1, sampling) == fresh(prompts, 1, sampling)


def test_generate_caps_the_scores_of_a_model_that_asks_for_it() -> None:
    settings: dict[str, Any] = {
        "attn_logit_softcapping": 2.0,
        "sliding_window": WINDOW,
        "head_dim": 16,
    }
    model = tiny("gemma-2", **settings)
    capped = tiny("gemma-2", **settings)
    capped.set_attn_implementation("eager")  # transformers' own, which knows the cap
    prompts, sampling = prompts_of(LENGTHS), Sampling(WINDOW, temperature=0.0)
    found = GenerateEngine(model, [EOS], PAD)(prompts, 1, sampling)
    assert found == GenerateEngine(capped, [EOS], PAD)(prompts, 1, sampling)
    ids = torch.tensor(prompts_of([2 * WINDOW, 2 * WINDOW]))
    torch.testing.assert_close(model(ids).logits, capped(ids).logits, rtol=0, atol=1e-4)
    uncapped = tiny("gemma-2", **settings | {"attn_logit_softcapping": None})
    assert (model(ids).logits - uncapped(ids).logits).abs().max() > 0.1
