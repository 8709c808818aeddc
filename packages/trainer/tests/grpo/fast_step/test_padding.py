"""A batch whose padding is moved to the right gives what it gave with a mask."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from small_models import WINDOW, tiny, tiny_gemma, tiny_multimodal_gemma
from xmlgrpo_trainer.grpo.fast_step.padding import align_left, near, places
from xmlgrpo_trainer.grpo.fast_step.sliding_window import NAME, has_kernel


def batch(rows: list[tuple[int, int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask of rows of (padding, text, padding)."""
    mask = torch.tensor([[0] * left + [1] * text + [0] * right for left, text, right in rows])
    torch.manual_seed(1)
    return torch.randint(3, 61, mask.shape) * mask, mask


def hidden_and_gradients(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    seen = hidden[mask.bool()]
    # not the sum of squares: the last norm makes that a constant, whose gradient is nothing
    torch.manual_seed(2)
    (seen * torch.randn(seen.shape).to(seen)).sum().backward()
    return [seen.detach(), *(p.grad for p in model.base_model.parameters() if p.grad is not None)]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([(0, 6, 0)], id="no-padding"),
        pytest.param([(2, 5, 1), (0, 4, 4), (6, 2, 0)], id="as-trl-pads-within-the-window"),
        pytest.param([(3, 15, 4), (0, 22, 0), (12, 9, 1)], id="past-the-window"),
        pytest.param([(1, WINDOW - 1, 0), (0, WINDOW, 0)], id="as-long-as-the-window"),
    ],
)
def test_hidden_states_and_gradients_are_those_with_a_mask(rows):
    ids, mask = batch(rows)
    expected = hidden_and_gradients(tiny_gemma(), ids, mask)
    model = tiny_gemma()
    assert align_left(model)
    found = hidden_and_gradients(model, ids, mask)
    assert len(found) == len(expected) > 20
    assert min(gradient.norm() for gradient in expected[1:]) > 0.1
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=2e-4)


SIZES: dict[str, Any] = {"hidden_size": 32, "num_key_value_heads": 2, "initializer_range": 0.2}


@pytest.mark.parametrize(
    "family", ["llama-3", "mistral", "qwen-2-with-windows", "qwen-3", "smollm-3"]
)
def test_other_families_give_what_they_gave_with_a_mask(family):
    ids, mask = batch([(3, 15, 4), (0, 22, 0), (12, 9, 1)])
    expected = hidden_and_gradients(tiny(family, **SIZES), ids, mask)
    model = tiny(family, **SIZES)
    assert align_left(model)
    found = hidden_and_gradients(model, ids, mask)
    assert len(found) == len(expected) > 20
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=2e-4)


def test_text_beside_a_vision_tower_gives_what_it_gave_with_a_mask():
    ids, mask = batch([(3, 15, 4), (0, 22, 0), (12, 9, 1)])
    asked = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    model = tiny_multimodal_gemma()
    expected = model(**asked).logits[mask.bool()]
    assert align_left(model)
    torch.testing.assert_close(model(**asked).logits[mask.bool()], expected, atol=2e-4, rtol=2e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "computed-again"])
def test_windows_without_masks_are_as_near_to_exact_as_masks(
    checkpointing: bool,
) -> None:
    ids, mask = (one.to("cuda") for one in batch([(3, 15, 4), (0, 22, 0), (12, 9, 1)]))

    def learnt(dtype: torch.dtype, *, aligned: bool) -> list[torch.Tensor]:
        model = tiny_gemma().to("cuda", torch.bfloat16).to(dtype).train()
        if aligned:
            assert align_left(model)
            assert has_kernel(model.config, ids.device, model.dtype)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return [one.float().cpu() for one in hidden_and_gradients(model, ids, mask)]

    exact = learnt(torch.float32, aligned=False)
    errors = []
    for aligned in (False, True):
        found = learnt(torch.bfloat16, aligned=aligned)
        assert len(found) == len(exact) > 20
        errors.append(
            max(
                ((one - other).norm() / other.norm()).item()
                for one, other in zip(found, exact, strict=True)
            )
        )
    masked, windowed = errors
    assert max(masked, windowed) < 0.15, "a window one token off is 0.9 away"


def test_an_aligned_models_layers_read_the_window() -> None:
    for model in (tiny_gemma(), tiny_multimodal_gemma()):
        assert align_left(model)
        read = {
            one.config._attn_implementation
            for one in model.modules()
            if type(one).__name__ == "Gemma3Attention"
        }
        assert read == {NAME}
        assert NAME not in model.config.to_json_string(), "a saved model names it not"


def with_a_mask(*arguments: torch.Tensor, **named: Any) -> torch.Tensor:
    """`varlen_attn` by torch's own attention, for texts of one length."""
    rows, length = named["cu_seq_q"].numel() - 1, named["max_q"]
    query, key, value = (one.unflatten(0, (rows, length)).transpose(1, 2) for one in arguments)
    before, after = named["window_size"]
    at = torch.arange(length)
    distance = at[:, None] - at
    mixed = torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=(distance <= before) & (distance >= -after),
        scale=named["scale"],
        enable_gqa=True,
    )
    return mixed.transpose(1, 2).flatten(0, 1)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "computed-again"])
def test_the_whole_path_through_the_windows_kernel(
    monkeypatch: pytest.MonkeyPatch,
    checkpointing: bool,
) -> None:
    ids, mask = batch([(3, 15, 4), (0, 22, 0), (12, 9, 1)])
    expected = hidden_and_gradients(tiny_gemma().train(), ids, mask)
    calls = []

    def counted(*arguments: Any, **named: Any) -> torch.Tensor:
        calls.append(named["window_size"])
        return with_a_mask(*arguments, **named)

    monkeypatch.setattr("xmlgrpo_trainer.grpo.fast_step.sliding_window.varlen_attn", counted)
    monkeypatch.setattr("xmlgrpo_trainer.grpo.fast_step.padding.has_kernel", lambda *_: True)
    model = tiny_gemma().train()
    align_left(model)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    found = hidden_and_gradients(model, ids, mask)
    assert set(calls) == {(WINDOW - 1, 0)}
    assert len(calls) == (4 if checkpointing else 2), "the sliding layers, and once more"
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=2e-4)


def test_under_autocast_the_windows_kernel_gets_half_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[torch.dtype] = []

    def noted(*arguments: torch.Tensor, **named: Any) -> torch.Tensor:
        given.extend(one.dtype for one in arguments)
        return with_a_mask(*arguments, **named)

    monkeypatch.setattr("xmlgrpo_trainer.grpo.fast_step.sliding_window.varlen_attn", noted)
    monkeypatch.setattr("xmlgrpo_trainer.grpo.fast_step.padding.has_kernel", lambda *_: True)
    ids, mask = batch([(3, 15, 4)])
    model = tiny_gemma()
    align_left(model)
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=ids, attention_mask=mask, use_cache=False)
    assert given == [torch.bfloat16] * 6, "query, key and value of two sliding layers"


def test_an_attention_chosen_afterwards_gets_its_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xmlgrpo_trainer.grpo.fast_step.padding.has_kernel", lambda *_: True)
    ids, mask = batch([(3, 15, 4), (0, 22, 0)])
    expected = hidden_and_gradients(tiny_gemma(), ids, mask)
    model = tiny_gemma()
    align_left(model)
    model.set_attn_implementation("sdpa")
    for one, other in zip(hidden_and_gradients(model, ids, mask), expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("make", [tiny_gemma, tiny_multimodal_gemma])
def test_attention_gets_no_mask_within_the_window(make, monkeypatch):
    masks = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def watched(query: Any, key: Any, value: Any, attn_mask: Any = None, **named: Any) -> Any:
        masks.append(attn_mask)
        return plain(query, key, value, attn_mask, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    model = make()
    align_left(model)
    ids, mask = batch([(2, 5, 1)])
    model(input_ids=ids, attention_mask=mask, use_cache=False)
    assert masks == [None] * 3
    masks.clear()
    ids, mask = batch([(2, 15, 1)])
    model(input_ids=ids, attention_mask=mask, use_cache=False)
    assert [mask is None for mask in masks] == [False, True, False], "sliding, full, sliding"


def test_places_lead_there_and_back():
    _, mask = batch([(3, 4, 1), (0, 8, 0), (7, 1, 0)])
    there, back = places(mask)
    at = torch.arange(8).expand(3, 8)
    assert torch.equal(at.gather(1, there).gather(1, back), at)
    assert mask.gather(1, there).tolist() == [[1] * n + [0] * (8 - n) for n in (4, 8, 1)]


def test_a_sliding_mask_is_made_in_its_own_place():
    made = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            found = func(*args, **(kwargs or {}))
            made.append((found.untyped_storage().data_ptr(), found.untyped_storage().nbytes()))
            return found

    length, window = 40, 8
    with Watch():
        mask = near(length, window, torch.device("cpu"))
    assert mask is not None
    at = torch.arange(length)
    distance = at[:, None] - at
    assert torch.equal(mask[0, 0], (distance >= 0) & (distance < window))
    assert set(made) == {(mask.untyped_storage().data_ptr(), length * length)}


def test_generation_is_left_alone():
    model, aligned = tiny_gemma().eval(), tiny_gemma().eval()
    align_left(aligned)
    ids, mask = batch([(3, 4, 0), (0, 7, 0)])
    asked = {"input_ids": ids, "attention_mask": mask, "max_new_tokens": 12, "do_sample": False}
    assert torch.equal(aligned.generate(**asked), model.generate(**asked))


def test_another_attention_stays_as_it_was():
    assert not align_left(tiny_gemma(attn_implementation="eager"))
