"""What trl's vLLM client is given, against trl's own way; vLLM itself is not needed."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from trl.generation.vllm_generation import VLLMGeneration

from small_models import tiny_gemma
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.engine import Sampling
from xmlgrpo_trainer.config.run_config import check_config
from xmlgrpo_trainer.grpo.fast_step.lora import fuse_lora
from xmlgrpo_trainer.grpo.vllm import adapters_are_plain, merged_weights, serve_vllm
from xmlgrpo_trainer.model.load import Placement
from xmlgrpo_trainer.model.unsloth import check_shared_vllm, vllm_share

BOTH = [1, 106]


def policy(dtype: torch.dtype, **lora: Any) -> Any:
    base = tiny_gemma(vocab_size=128).to(dtype)
    fields = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], **lora}
    model = get_peft_model(base, LoraConfig(**fields))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    return model


def trls_client(model: Any) -> VLLMGeneration:
    """A client of trl without an engine behind it."""
    client = object.__new__(VLLMGeneration)
    client.model, client.mode, client.generation_kwargs = model, "colocate", {}
    client._dist = SimpleNamespace(is_fsdp=False, gather_params=lambda _: nullcontext())
    return client


@pytest.mark.parametrize("fused", [False, True], ids=["peft", "fused"])
def test_the_weights_are_those_that_trl_sends(fused: bool) -> None:
    model = policy(torch.float32)
    if fused:
        assert fuse_lora(model) == 6  # two projections of three layers
    sent = {n: w.clone() for n, w in trls_client(model)._iter_named_params()}
    ours = dict(merged_weights(model))
    assert list(ours) == list(sent)
    assert "model.layers.1.mlp.down_proj.weight" in ours
    for name, weight in ours.items():
        torch.testing.assert_close(weight, sent[name], atol=1e-6, rtol=1e-6)


def test_the_frozen_weights_stay_as_they_are() -> None:
    model = policy(torch.bfloat16)
    before = {n: p.clone() for n, p in model.named_parameters()}
    sent = dict(merged_weights(model))
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert {weight.dtype for weight in sent.values()} == {torch.bfloat16}
    for _ in trls_client(model)._iter_named_params():
        pass
    wandered = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    assert wandered, "trl's own way changes them, or this module is not needed"
    assert all("base_layer" in name for name in wandered)


def test_a_fused_model_answers_alike_before_and_after_trls_merge() -> None:
    model = policy(torch.float32).eval()
    fuse_lora(model)
    ids = torch.tensor([[2, 5, 7, 11]])
    with torch.no_grad():
        before = model(input_ids=ids).logits
        for name, _ in trls_client(model)._iter_named_params():
            if name == "lm_head.weight" or name.endswith("norm.weight"):
                merged = model(input_ids=ids).logits
                torch.testing.assert_close(merged, before, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model(input_ids=ids).logits, before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("lora", "ours"),
    [
        pytest.param({}, True, id="plain"),
        pytest.param({"lora_dropout": 0.1}, True, id="dropout"),
        pytest.param({"use_dora": True}, False, id="dora"),
    ],
)
def test_every_stop_token_reaches_vllm(lora: dict[str, Any], ours: bool) -> None:
    model = policy(torch.float32, **lora)
    client = trls_client(model)
    serve_vllm(SimpleNamespace(model=model, vllm_generation=client), BOTH)
    assert client.generation_kwargs == {"stop_token_ids": BOTH}
    assert adapters_are_plain(model) is ours
    assert ("_iter_named_params" in vars(client)) is ours


def test_a_packed_base_is_left_to_trl() -> None:
    model = policy(torch.float32)
    base = model.get_base_model().model.layers[0].self_attn.q_proj.base_layer
    base.weight = torch.nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    assert not adapters_are_plain(model)


def test_an_engine_that_computes_with_the_policys_own_tensors_is_sent_no_merged_copy() -> None:
    model = policy(torch.float32)
    model.get_base_model().vllm_engine = object()  # where Unsloth's fast_inference leaves it
    client = trls_client(model)
    serve_vllm(SimpleNamespace(model=model, vllm_generation=client), BOTH)
    assert client.generation_kwargs == {"stop_token_ids": BOTH}
    assert "_iter_named_params" not in vars(client)


@pytest.mark.parametrize(
    ("given", "meant"), [(-1, 0), (0, 0), (None, 0), (40, 40)], ids=["vllm", "trl", "none", "some"]
)
def test_every_word_for_all_tokens_is_understood(given: int | None, meant: int) -> None:
    from xmlgrpo_trainer.grpo.trainer import rollout_sampling

    arguments: Any = SimpleNamespace(temperature=0.7, top_p=0.9, top_k=given, min_p=None)
    found = rollout_sampling(arguments, 12)
    assert found == Sampling(12, temperature=0.7, top_p=0.9, top_k=meant, min_p=0.0)


def test_another_number_below_zero_is_refused() -> None:
    from xmlgrpo_trainer.grpo.trainer import rollout_sampling

    arguments: Any = SimpleNamespace(temperature=0.7, top_p=0.9, top_k=-7, min_p=None)
    with pytest.raises(UserError, match="top_k: expected 0"):
        rollout_sampling(arguments, 12)


@pytest.mark.parametrize(
    ("grpo", "longest"),
    [
        pytest.param({"max_completion_length": 256}, 768, id="prompt-and-completion"),
        pytest.param({"vllm_max_model_length": 4096}, 4096, id="asked-for"),
    ],
)
def test_vllm_reserves_room_for_what_can_come(
    grpo: dict[str, Any], longest: int, tmp_path: Path
) -> None:
    from xmlgrpo_trainer.grpo.trainer import build_arguments

    config = check_config({"rollout": "vllm", "grpo": grpo}, "here")
    placement = Placement("plain", "cpu", "float32", "a test")
    arguments = build_arguments(config, placement, tmp_path, [1.0])
    assert arguments.use_vllm
    assert arguments.vllm_max_model_length == longest
    assert vllm_share(config, arguments) == arguments.vllm_gpu_memory_utilization


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param({"rollout": "graph"}, id="another-engine"),
        pytest.param({"rollout": "vllm", "grpo": {"vllm_mode": "server"}}, id="a-server"),
    ],
)
def test_no_vllm_beside_the_policy(raw: dict[str, Any], tmp_path: Path) -> None:
    from xmlgrpo_trainer.grpo.trainer import build_arguments

    config = check_config(raw, "here")
    placement = Placement("plain", "cpu", "float32", "a test")
    assert vllm_share(config, build_arguments(config, placement, tmp_path, [1.0])) is None


@pytest.mark.parametrize(
    ("revision", "sleeps", "standby", "says"),
    [
        pytest.param("main", False, "0", "model.revision is 'main'", id="revision"),
        pytest.param(None, True, "0", "UNSLOTH_VLLM_STANDBY=1", id="sleep"),
        pytest.param(None, True, "1", None, id="sleep-with-standby"),
        pytest.param(None, False, "0", None, id="awake"),
    ],
)
def test_what_unsloths_vllm_cannot_do(
    revision: str | None,
    sleeps: bool,
    standby: str,
    says: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UNSLOTH_VLLM_STANDBY", standby)
    arguments = SimpleNamespace(
        vllm_mode="colocate", vllm_gpu_memory_utilization=0.3, vllm_enable_sleep_mode=sleeps
    )
    model = {"name": "google/gemma-3-1b-it", "revision": revision}
    config = check_config({"rollout": "vllm", "model": model}, "here")
    with pytest.raises(UserError, match=says) if says else nullcontext():
        check_shared_vllm(config, arguments)
