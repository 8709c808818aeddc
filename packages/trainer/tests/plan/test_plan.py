"""Shapes, memory, schedule, advice and the `xmlgrpo-plan` command."""

import ast
import dataclasses
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout import gpu as gpu_engine
from xmlgrpo_trainer.config.batch import shared
from xmlgrpo_trainer.config.run_config import ModelConfig, RunConfig, check_config
from xmlgrpo_trainer.plan import command as plan_command
from xmlgrpo_trainer.plan import memory
from xmlgrpo_trainer.plan.advice import changed
from xmlgrpo_trainer.plan.command import MEASURED_ON_GPU
from xmlgrpo_trainer.plan.gpus import find_gpu, has_driver, nearest_gpu
from xmlgrpo_trainer.plan.make import all_fields, make_plan
from xmlgrpo_trainer.plan.memory import Peak, estimate
from xmlgrpo_trainer.plan.pace import Pace, pace, unmasked_flop
from xmlgrpo_trainer.plan.shapes import GEMMA_3, OTHERS, find_shape, read_shape
from xmlgrpo_trainer.plan.workload import Load, load_of
from xmlgrpo_trainer.prepare import refuse_early

NULL: dict[str, object] = {"max_completion_length": None}
DOCS = Path(__file__).resolve().parents[4] / "docs"

# What keras-hub publishes for the text models (keras_hub/src/models/gemma3/gemma3_presets.py).
PUBLISHED_TEXT = {
    "270m": 268_098_176,
    "1b": 999_885_952,
    "4b": 3_880_099_328,
    "12b": 11_765_788_416,
    "27b": 27_009_002_240,
}
PUBLISHED_WITH_VISION = {"4b": 4_299_915_632, "12b": 12_187_079_280, "27b": 27_432_062_576}
EXTRA_ROWS = 64  # of the embedding in transformers' multimodal checkpoints


@pytest.mark.parametrize("size", PUBLISHED_TEXT)
def test_gemma_shapes_add_up_to_the_published_number_of_weights(size: str) -> None:
    shape = GEMMA_3[size]
    if not shape.vision:
        assert shape.weights == PUBLISHED_TEXT[size]
        return
    extra = EXTRA_ROWS * shape.hidden
    assert shape.weights == PUBLISHED_WITH_VISION[size] + extra
    vision = PUBLISHED_WITH_VISION[size] - PUBLISHED_TEXT[size]
    assert shape.weights - vision - extra == PUBLISHED_TEXT[size]


def test_other_shapes_add_up_to_what_their_makers_publish() -> None:
    assert {shape.name: shape.weights for shape in OTHERS} == {
        "qwen3-0.6b": 596_049_920,
        "qwen2.5-0.5b": 494_032_768,
        "llama-3.2-1b": 1_235_814_400,
        "smollm2-135m": 134_515_008,
        "smollm2-360m": 361_821_120,
        "gemma-4-e2b": 5_016_376_176,  # transformers' class has 5,104,297,504, with hearing
        "gemma-4-e4b": 7_845_808_496,  # 7,941,100,832
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("Qwen/Qwen3-0.6B", "qwen3-0.6b", id="qwen-3"),
        pytest.param("Qwen/Qwen2.5-0.5B-Instruct", "qwen2.5-0.5b", id="instruct"),
        pytest.param("Qwen/Qwen3-0.6B-Base", "qwen3-0.6b", id="base"),
        pytest.param("meta-llama/Llama-3.2-1B-Instruct", "llama-3.2-1b", id="llama"),
        pytest.param("unsloth/SmolLM2-135M-Instruct", "smollm2-135m", id="repacked"),
        pytest.param("Qwen/Qwen3-0.6B-FP8", None, id="quantized"),
    ],
)
def test_a_known_name_needs_no_file(name: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(UserError, match="is not known here"):
            find_shape(ModelConfig(name=name))
    else:
        shape = find_shape(ModelConfig(name=name))
        assert (shape.name, shape.obstacle) == (expected, None)


def test_lora_weights_are_those_that_peft_reported() -> None:
    # print_trainable_parameters on an H100: r=16 and r=64 on the 1B, r=16 on the 4B
    assert GEMMA_3["1b"].lora_weights(16, "all-linear") == 13_045_760
    assert GEMMA_3["1b"].lora_weights(64, None) == 52_183_040
    assert GEMMA_3["4b"].lora_weights(16, None) == 29_802_496
    assert GEMMA_3["1b"].lora_weights(16, ["q_proj"]) == 26 * 16 * (1152 + 1024)


def load(size: str = "1b", **changes: Any) -> Load:
    shape = GEMMA_3[size]
    rank = changes.pop("rank", 16)
    quantized = changes.pop("quantized", False)
    fields: dict[str, object] = {
        "shape": shape,
        "number_bytes": 2,
        "quantized": quantized,
        "lora_weights": shape.lora_weights(int(str(rank)), None),
        "optimizer_bytes": 4 if quantized else 8,
        "engine": "generate",
        "rows": 1,
        "group": 8,
        "held_out_rows": 1,
        "micro_batch": 8,
        "prompt_tokens": 150,
        "completion_tokens": 256,
        "held_out_tokens": 1,
        "ragged": False,
    }
    return Load(**(fields | changes))  # type: ignore[arg-type]  # a test's table of fields


# Written by bench/training/peaks.py, which says how; an update is measured without drawing (rows=1
# here), a rollout by itself (micro_batch=1).
MEASURED = json.loads((DOCS / "measured" / "peaks-h100.json").read_text(encoding="utf-8"))["peaks"]


def load_of_peak(measured: dict[str, Any]) -> Load:
    drawn = measured["drawn"]
    return load(
        measured["size"],
        rank=measured["rank"],
        quantized=measured["quantized"],
        rows=drawn or 1,
        micro_batch=1 if drawn else measured["micro_batch"],
        prompt_tokens=measured["prompt_tokens"],
        completion_tokens=measured["completion_tokens"],
        checkpointing=measured["checkpointing"],
        liger=measured["liger"],
        second_pass=measured["beta"] > 0,
    )


def test_the_table_of_peaks_is_what_was_measured_and_is_estimated() -> None:
    text = (DOCS / "measured/README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith(("| `1b-", "| `4b-"))]
    expected = []
    for measured in MEASURED:
        load = load_of_peak(measured)
        assert load.lora_weights == measured["trained_weights"]
        peak_gib, estimated_gib = measured["peak_gib"], estimate(load).allocated
        assert estimated_gib == pytest.approx(peak_gib, rel=0.03)
        difference = 100 * (estimated_gib / peak_gib - 1)
        expected.append(
            f"| `{measured['name']}` | {peak_gib:.2f} | {estimated_gib:.2f} | {difference:+.1f} % |"
        )
    assert rows == expected
    assert MEASURED_ON_GPU.startswith("the counts were within 3 % of thirteen peaks")
    assert len(expected) == 13


def test_what_is_said_of_unsloth_is_what_was_measured() -> None:
    text = " ".join((DOCS / "configuration.md").read_text(encoding="utf-8").split())
    file = DOCS / "measured" / "end-to-end-h200.json"
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    peaks = {name: run["train"]["memory"]["allocated_gib"] for name, run in runs.items()}
    forms = ("16-graph", "16-generate", "4-graph", "4-generate")
    unsloth = [peaks[f"unsloth-{form}"] - peaks[f"plain-{form}"] for form in forms]
    more = f"{min(unsloth):.1f} to {max(unsloth):.1f} GiB more"
    assert more in text
    either = gemma(model={"name": "google/gemma-3-1b-it"})
    [note] = [n for n in make_plan(either, find_gpu("H200")).notes if "Unsloth" in n]
    assert more in note


def paced(gpu: str, *, rollout: str = "auto", **grpo: Any) -> Pace:
    data = {"source": "hub", "max_prompt_tokens": 150}
    sizes = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 8, "max_steps": 1}
    fields = {"max_completion_length": 256, **sizes, **grpo}
    found = make_plan(gemma(data=data, rollout=rollout, grpo=fields), find_gpu(gpu)).pace
    assert found is not None
    return found


def test_the_time_of_generate_is_near_what_was_measured() -> None:
    # 14.2 s a step of 256 tokens on an H200, with an update of 0.8 s
    assert paced("H200", rollout="generate").rollout_s == pytest.approx(13.4, rel=0.1)


@pytest.mark.parametrize(
    ("prompts", "seconds"),
    [pytest.param(8, 0.55, id="64-rows"), pytest.param(64, 1.33, id="512-rows")],
)
def test_the_graph_engines_time_is_near_what_was_measured(prompts: int, seconds: float) -> None:
    found = paced("H100", gradient_accumulation_steps=prompts)
    assert seconds / 1.5 < found.rollout_s < seconds * 1.5


@pytest.mark.parametrize(
    ("gpu", "told"),
    [
        pytest.param("H200", "timed on an H100 and an H200", id="measured"),
        pytest.param("L4", "nobody timed a step on L4", id="scaled"),
        pytest.param("A100-80", "nobody timed a step on A100-80", id="scaled-a100"),
    ],
)
def test_a_time_says_where_it_comes_from(gpu: str, told: str) -> None:
    assert told in paced(gpu).grounds


def test_our_step_takes_longer_for_more_work_and_never_for_less() -> None:
    def update_s(**grpo: Any) -> float:
        return paced("H100", **grpo).update_s

    whole = {"gradient_checkpointing": False}
    uncorrected = {"vllm_importance_sampling_correction": False}
    assert update_s() > update_s(**whole)
    assert update_s(**whole) == update_s(**whole, **uncorrected), "corrected at no extra pass"
    again = whole | {"steps_per_generation": 16}  # trl's own pass is needed then
    assert update_s(**again) > update_s(**whole)
    assert update_s(gradient_accumulation_steps=16) > update_s()
    small = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 64}
    assert update_s(**small) > update_s(), "the same work in more launches"


def test_no_time_is_made_up_where_nothing_was_measured() -> None:
    unsloth = {"name": "google/gemma-3-1b-it", "backend": "unsloth"}
    assert make_plan(gemma(model=unsloth), find_gpu("H100")).pace is None
    assert make_plan(gemma(rollout="vllm"), find_gpu("H100")).pace is None
    on_cpu = check_config({"model": {"name": "google/gemma-3-1b-it", "device": "cpu"}}, "a test")
    assert make_plan(on_cpu, None).pace is None


def test_sliding_layers_forget_and_the_full_ones_do_not() -> None:
    shape = GEMMA_3["1b"]  # 26 layers, every sixth sees everything: 4 full, 22 sliding over 512
    assert shape.cached_tokens(100) == 26 * 100
    assert shape.cached_tokens(1000) == 4 * 1000 + 22 * 512


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("t4", "T4"),
        ("RTX 4090", "RTX 4090"),
        ("rtx4090", "RTX 4090"),
        ("4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
        ("a100-80", "A100-80"),
        ("A100_40", "A100-40"),
        ("h200", "H200"),
        ("A10", "A10"),
        ("a10g", "A10G"),
        ("Tesla T4", "T4"),
    ],
)
def test_a_gpu_is_found_however_it_is_written(written: str, name: str) -> None:
    assert find_gpu(written).name == name


@pytest.mark.parametrize(
    ("written", "told"),
    [
        pytest.param("A100", "one of several; name one: A100-40, A100-80", id="two-sizes"),
        pytest.param("H1000", r"did you mean H100( or .*)?\? Known: RTX 4060", id="near-miss"),
        pytest.param("abacus", "no GPU 'abacus' in the table; known: RTX 4060", id="unknown"),
        pytest.param("", "no GPU ''", id="empty"),
    ],
)
def test_an_unclear_gpu_is_an_error_that_lists_names(written: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        find_gpu(written)


def gemma(**sections: object) -> RunConfig:
    model = {"name": "google/gemma-3-1b-it", "backend": "plain"}
    return check_config({"model": model, "data": {"source": "hub"}, **sections}, "a test")


def test_groups_that_are_drawn_and_left_out_take_room_and_time() -> None:
    config = gemma(grpo={"max_steps": 10, "generation_batch_size": 32}, sampling={"draw": 1.5})
    planned = load_of(config, all_fields(config), GEMMA_3["1b"], None, 1)
    assert (planned.prompts, planned.rows, planned.reuse) == (6, 48, 4)


@pytest.mark.parametrize(
    ("grpo", "gpus", "expected"),
    [
        # 8 completions a backward pass, one pass: one problem a step, 7173 of them, 3 epochs
        pytest.param({}, 1, (1, 8, 1, 3 * 6873), id="defaults"),
        pytest.param(
            {"max_steps": 10, "gradient_accumulation_steps": 4}, 1, (4, 32, 1, 10), id="accumulate"
        ),
        pytest.param({"max_steps": 10}, 2, (1, 4, 1, 10), id="two-gpus"),
        pytest.param({"max_steps": 10, "num_iterations": 2}, 1, (1, 8, 2, 10), id="iterations"),
        pytest.param(
            {"max_steps": 10, "steps_per_generation": 4}, 1, (4, 32, 4, 10), id="large-generation"
        ),
        pytest.param(
            {"max_steps": 10, "generation_batch_size": 16}, 1, (2, 16, 2, 10), id="given-size"
        ),
    ],
)
def test_the_schedule_counts_as_trl_does(
    grpo: dict[str, int], gpus: int, expected: tuple[int, int, int, int]
) -> None:
    from trl import GRPOConfig

    config = gemma(grpo=grpo)
    fields = shared(all_fields(config), gpus)
    planned = load_of(config, fields, GEMMA_3["1b"], None, gpus)
    assert (planned.prompts, planned.rows, planned.reuse, planned.steps) == expected
    if gpus == 1:  # trl knows its own number of processes only
        theirs = GRPOConfig(
            output_dir="unused",
            use_cpu=True,
            bf16=False,
            **{**grpo, "generation_batch_size": grpo.get("generation_batch_size")},
        )
        assert planned.prompts * planned.group == theirs.generation_batch_size
        accumulated = theirs.gradient_accumulation_steps
        uses = theirs.steps_per_generation * theirs.num_iterations
        assert planned.reuse == max(1, uses // accumulated)


def test_several_gpus_share_the_batch_of_one() -> None:
    config = gemma(grpo={"max_steps": 10, "gradient_accumulation_steps": 4})
    one, two = (make_plan(config, find_gpu("L4"), gpus) for gpus in (1, 2))
    assert (two.load.prompts, two.load.steps) == (one.load.prompts, one.load.steps)
    assert two.load.rows == one.load.rows // 2
    assert two.peak.total <= one.peak.total


def test_a_limit_that_is_null_is_the_default() -> None:
    null, default = (gemma(grpo={"max_steps": 1} | more) for more in (NULL, {}))
    assert make_plan(null, find_gpu("L4")) == make_plan(default, find_gpu("L4"))


@pytest.mark.parametrize(
    ("micro", "group", "changes", "prompts"),
    [
        pytest.param(64, 8, {}, 64, id="padded"),
        pytest.param(64, 8, {"packed": True}, 8, id="whole-groups"),
        pytest.param(4, 8, {"packed": True}, 1, id="half-a-group"),
        pytest.param(12, 8, {"packed": True}, 2, id="a-group-and-a-half"),
        pytest.param(9, 8, {"packed": True}, 2, id="groups-that-are-cut"),
        pytest.param(64, 8, {"packed": True, "shuffled": True}, 64, id="in-any-order"),
    ],
)
def test_packed_rows_hold_each_prompt_once(
    micro: int, group: int, changes: dict[str, Any], prompts: int
) -> None:
    of = load(micro_batch=micro, group=group, **changes)
    assert of.pass_prompts == prompts
    assert of.micro_tokens == prompts * 150 + micro * 256


MERGED_NOTE = (
    "merged_pass: a step's time and memory are counted as without it; neither was measured on a GPU"
)


def test_packed_rows_take_less_room_and_time_and_what_is_not_counted_is_said() -> None:
    """64 completions of 256 tokens after 8 prompts of 512: 20.5 of 49.2 k tokens."""

    def planned(*, packed: bool, merged: bool = False) -> Any:
        grpo = {"num_generations": 8, "per_device_train_batch_size": 64, "max_steps": 1}
        raw = {"model": {"name": "google/gemma-3-1b-it", "backend": "plain"}, "grpo": grpo}
        raw |= {"packed_rows": packed, "merged_pass": merged, "rollout": "graph"}
        grpo |= {"max_completion_length": 256, "gradient_checkpointing": False}
        raw["data"] = {"max_prompt_tokens": 512}
        return make_plan(check_config(raw, "test"), find_gpu("H200"), has_liger=True)

    padded, packed = planned(packed=False), planned(packed=True)
    assert packed.load.micro_tokens == 8 * 512 + 64 * 256
    share = packed.load.micro_tokens / padded.load.micro_tokens
    # keys and values of a prompt are still there for each completion
    assert share < packed.peak.activations / padded.peak.activations < share + 0.05
    assert packed.pace.update_s < 0.6 * padded.pace.update_s
    assert packed.pace.rollout_s == padded.pace.rollout_s
    assert any("no advantage" in note for note in packed.notes)
    assert not any("no advantage" in note for note in padded.notes)
    merged = planned(packed=True, merged=True)
    assert set(merged.notes) - set(packed.notes) == {MERGED_NOTE}


def test_the_graph_engines_limits_are_the_engines_own() -> None:
    # the engine itself cannot be imported without Triton
    text = Path(gpu_engine.__file__).with_name("engine.py").read_text(encoding="utf-8")
    imported = {
        name.name
        for node in ast.parse(text).body
        if isinstance(node, ast.ImportFrom) and node.module == "xmlgrpo_rollout.gpu"
        for name in node.names
    }
    counted = {"MEMORY_SHARE", "PREFILL_TOKENS", "ROWS", "SLOTS_MULTIPLE"}
    assert counted <= imported
    for name in counted:
        assert getattr(memory, name) is getattr(gpu_engine, name)


def test_epochs_of_a_local_file_are_counted_by_its_lines(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"question": "q"}\n' * 70 + "\n")
    config = check_config(
        {
            "data": {"source": "json", "path": str(tmp_path)},
            "holdout": {"report_rows": 10, "validation_rows": 10},
            "grpo": {"num_train_epochs": 2.0, "per_device_train_batch_size": 16},
        },
        "a test",
    )
    planned = load_of(config, all_fields(config), GEMMA_3["1b"], None)
    assert planned.train_rows == 50
    assert planned.steps == 2 * 25  # two problems a step
    assert planned.rollouts == 50 * 16


@pytest.mark.parametrize(
    ("grpo", "gpu"),
    [
        pytest.param({"per_device_train_batch_size": 64}, "T4", id="one-knob"),
        pytest.param({"max_completion_length": 4096}, "T4", id="our-own-defaults"),
        pytest.param(
            {
                "per_device_train_batch_size": 16,
                "gradient_accumulation_steps": 16,
                "max_completion_length": 2048,
                "beta": 0.04,
            },
            "RTX 4060",
            id="several-knobs",
        ),
        pytest.param(
            {"per_device_train_batch_size": 8, "gradient_checkpointing": False},
            "RTX 4080",
            id="checkpointing-off",
        ),
    ],
)
def test_every_change_that_is_suggested_does_fit(grpo: dict[str, object], gpu: str) -> None:
    config = gemma(grpo=grpo)
    planned = make_plan(config, find_gpu(gpu))
    assert not planned.fits
    assert planned.changes
    for change in planned.changes:
        values = dict(pair.split("=") for pair in change.overrides)
        parsed = {key: json.loads(value) for key, value in values.items()}
        again = make_plan(changed(config, parsed), find_gpu(gpu))
        assert again.fits
        assert again.peak.total == change.peak_gib
    assert planned.bigger
    for bigger in planned.bigger:
        assert make_plan(config, bigger).fits


def test_what_float16_products_refuse_is_not_suggested() -> None:
    model = {"name": "google/gemma-3-1b-it", "backend": "plain", "float16_products": True}
    raw: dict[str, Any] = {"model": model}
    raw |= {"packed_rows": True, "rollout": "generate"}
    grpo = {"per_device_train_batch_size": 64, "num_generations": 8, "max_steps": 1}
    planned = make_plan(check_config(raw | {"grpo": grpo}, "a test"), find_gpu("T4"))
    assert not planned.fits
    named = {word.split("=")[0] for change in planned.changes for word in change.overrides}
    assert "grpo.per_device_train_batch_size" in named
    assert not named & {"model.load_in_4bit", "grpo.use_liger_kernel"}


def test_what_cannot_fit_is_not_talked_up() -> None:
    config = check_config(
        {"model": {"name": "google/gemma-3-27b-it", "backend": "plain"}, "grpo": {"max_steps": 1}},
        "a test",
    )
    planned = make_plan(config, find_gpu("T4"))
    assert not planned.fits
    assert planned.changes == []


def test_a_gpu_without_bfloat16_takes_float32_and_says_so() -> None:
    planned = make_plan(gemma(), find_gpu("T4"))
    assert planned.load.number_bytes == 4
    assert any("no bfloat16" in note for note in planned.notes)
    assert any("nothing was measured on a T4" in note for note in planned.notes)
    narrow = dataclasses.replace(planned.load, narrow=True)
    spared = planned.peak.weights - estimate(narrow).weights
    assert spared == pytest.approx(2 * planned.shape.weights / 2**30)
    assert make_plan(gemma(), find_gpu("L4")).load.number_bytes == 2
    # its tensor cores take float16 factors; an L4 is as quick with either type
    quicker = {}
    for name in ("T4", "L4"):
        wide, half = pace(planned.load, find_gpu(name)), pace(narrow, find_gpu(name))
        assert wide is not None
        assert half is not None
        quicker[name] = wide.update_s / half.update_s
    assert 1.5 < quicker["T4"] < 65 / 8.1
    assert quicker["L4"] == 1


def test_what_a_figure_rests_on_is_said() -> None:
    whole = {"per_device_train_batch_size": 64, "gradient_checkpointing": False}
    plain = make_plan(gemma(grpo=whole), find_gpu("H200"))
    liger = make_plan(gemma(grpo=whole), find_gpu("H200"), has_liger=True)
    assert any("liger-kernel is not installed here" in note for note in plain.notes)
    assert not any("liger-kernel is not installed here" in note for note in liger.notes)
    assert liger.peak.total < plain.peak.total
    assert any("every prompt is counted as 512 tokens" in note for note in liger.notes)


@pytest.mark.parametrize(
    ("model", "gpu", "aligned", "windowed"),
    [
        pytest.param({}, "H100", True, True, id="bfloat16"),
        pytest.param({"attn_implementation": "sdpa"}, "H100", True, True, id="sdpa-by-name"),
        pytest.param({"attn_implementation": "eager"}, "H100", False, False, id="eager"),
        pytest.param({"dtype": "float32"}, "H100", False, False, id="float32"),
        pytest.param({"backend": "unsloth"}, "H100", False, False, id="unsloth"),
        pytest.param({"dtype": "bfloat16"}, "T4", True, False, id="bfloat16-emulated"),
        pytest.param({}, "T4", False, False, id="t4"),
    ],
)
def test_masks_are_planned_where_attention_gets_them(
    model: dict[str, object], gpu: str, *, aligned: bool, windowed: bool
) -> None:
    named = {"name": "gemma-3-1b", "backend": "plain"} | model
    asked = make_plan(check_config({"model": named}, "a test"), find_gpu(gpu)).load
    assert (asked.aligned, asked.windowed) == (aligned, windowed)


@pytest.mark.parametrize(
    ("aligned", "windowed", "layers_with_all", "layers_with_near"),
    [
        pytest.param(True, True, 4, 22, id="windows"),
        pytest.param(True, False, 4, 0, id="masks-in-sliding-layers"),
        pytest.param(False, False, 0, 0, id="masks-in-all"),
        pytest.param(False, True, 0, 0, id="windows-do-not-help-padded-texts"),
    ],
)
def test_attention_without_a_mask_computes_the_pairs_that_are_seen(
    *, aligned: bool, windowed: bool, layers_with_all: int, layers_with_near: int
) -> None:
    found = make_plan(gemma(grpo={"max_completion_length": 1024}), find_gpu("H100")).load
    asked = dataclasses.replace(found, aligned=aligned, windowed=windowed)
    length, window = asked.length, 512
    assert length == 1536
    near = sum(abs(one - other) < window for one in range(length) for other in range(length))
    pairs = layers_with_all * length**2 + layers_with_near * near
    # a pair's score and its share of the values, 2 x 256 products and sums each, in 4 heads
    assert unmasked_flop(asked) == pytest.approx(pairs * 4 * 256 * 4, rel=0.002)


@pytest.mark.parametrize(("tokens", "seconds"), [(1024, 3.52), (2048, 7.85)])
def test_a_step_with_masks_takes_what_it_took(tokens: int, seconds: float) -> None:
    # of docs/measured/README.md, "How it grows"; prompts of at most 198 tokens
    grpo = {
        "max_completion_length": tokens,
        "per_device_train_batch_size": 16384 // tokens,
        "gradient_accumulation_steps": 64 * tokens // 16384,
        "gradient_checkpointing": False,
    }
    config = gemma(grpo=grpo, data={"source": "hub", "max_prompt_tokens": 198})
    planned = make_plan(config, find_gpu("H200"), has_liger=True)
    masked = dataclasses.replace(planned.load, windowed=False)
    found = pace(masked, planned.gpu)
    assert found is not None
    assert found.rollout_s + found.update_s == pytest.approx(seconds, rel=0.1)


def test_dropout_and_dora_take_pefts_own_projection() -> None:
    for name, value in (("lora_dropout", 0.1), ("use_dora", True)):
        asked = make_plan(gemma(lora={name: value}), find_gpu("H100")).load
        assert asked.ours
        assert not asked.fused_lora
    assert make_plan(gemma(), find_gpu("H100"), gpus=2).load.fused_lora
    unsloth = check_config({"model": {"name": "gemma-3-1b", "backend": "unsloth"}}, "a test")
    assert not make_plan(unsloth, find_gpu("H100")).load.ours


LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 300,
}
STABLELM = {**LLAMA, "model_type": "stablelm", "architectures": ["StableLmForCausalLM"]}


def test_the_plan_is_of_the_engine_that_the_run_takes(tmp_path: Path) -> None:
    gpu = find_gpu("T4")
    assert make_plan(gemma(), gpu).load.engine == "graph"
    for model, engine in ((LLAMA, "graph"), (STABLELM, "generate")):
        write_config(tmp_path, json.dumps(model))
        other = make_plan(gemma(model={"name": str(tmp_path), "backend": "plain"}), gpu)
        assert other.load.engine == engine
        assert not any("Gemma 3 overflows" in note for note in other.notes)
    for lora in ({"use_dora": True}, {"lora_bias": True}, {"target_parameters": ["q_proj.weight"]}):
        planned = make_plan(gemma(lora=lora), gpu)
        assert planned.load.engine == "generate"
        assert planned.pace == make_plan(gemma(lora=lora, rollout="generate"), gpu).pace


@pytest.mark.parametrize(
    "refuse",
    [lambda c: make_plan(c, find_gpu("T4")), partial(refuse_early, processes=1)],
    ids=["plan", "run"],
)
def test_an_engine_that_cannot_serve_is_refused_before_anything(
    tmp_path: Path, refuse: Callable[[RunConfig], object]
) -> None:
    write_config(tmp_path, json.dumps(STABLELM))
    refuse(gemma(rollout="graph"))
    with pytest.raises(UserError, match=r"'graph' cannot serve this model: .* has use_dora"):
        refuse(gemma(rollout="graph", lora={"use_dora": True}))
    with pytest.raises(UserError, match=r"'graph' cannot serve .* no recipe for StableLm"):
        refuse(gemma(rollout="graph", model={"name": str(tmp_path), "backend": "plain"}))
    refuse(gemma(rollout_weights="int8"))
    with pytest.raises(UserError, match=r"'int8' needs the engine graph, .* has use_dora"):
        refuse(gemma(rollout_weights="int8", lora={"use_dora": True}))
    merged = {"merged_pass": True, "packed_rows": True}
    four_bit = {"name": "google/gemma-3-1b-it", "backend": "plain", "load_in_4bit": True}
    refuse(gemma(**merged))
    with pytest.raises(
        UserError, match=r"merged_pass: expected .*got generate \(.* has use_dora\)"
    ):
        refuse(gemma(**merged, lora={"use_dora": True}))
    with pytest.raises(UserError, match=r"merged_pass: expected .*16-bit copy of the 4-bit weigh"):
        refuse(gemma(**merged, model=four_bit))


def test_8_bits_are_a_second_copy_of_the_projections() -> None:
    gpu = find_gpu("H200")
    plain, int8 = make_plan(gemma(), gpu), make_plan(gemma(rollout_weights="int8"), gpu)
    more = int8.peak.engine - plain.peak.engine
    assert more * 2**30 == pytest.approx(plain.shape.projection_weights)
    assert any("rollout_weights" in note for note in int8.notes)
    assert plain.load.second_pass == int8.load.second_pass


def write_config(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(text, encoding="utf-8")


def test_a_folder_gives_its_own_shape(tmp_path: Path) -> None:
    text = {
        "hidden_size": 1152,
        "num_hidden_layers": 26,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "intermediate_size": 6912,
        "sliding_window": 512,
        "vocab_size": 262144,
    }
    write_config(tmp_path / "text", json.dumps({"model_type": "gemma3_text", **text}))
    found = find_shape(ModelConfig(name=str(tmp_path / "text")))
    assert found.weights == PUBLISHED_TEXT["1b"]
    write_config(
        tmp_path / "both",
        json.dumps({"model_type": "gemma3", "text_config": text, "vision_config": {}}),
    )
    assert find_shape(ModelConfig(name=str(tmp_path / "both"))).vision


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("{", "is not JSON", id="not-json"),
        pytest.param("[]", "expected a JSON object", id="a-list"),
        pytest.param('{"text_config": 3}', "text_config: expected an object", id="odd-part"),
        pytest.param('{"hidden_size": 8}', "num_hidden_layers: expected a whole", id="missing"),
        pytest.param(
            '{"hidden_size": -8, "num_hidden_layers": 1}', "hidden_size: expected", id="negative"
        ),
        pytest.param('{"hidden_size": "8"}', "hidden_size: expected", id="text"),
    ],
)
def test_a_broken_config_json_is_told(tmp_path: Path, text: str, told: str) -> None:
    write_config(tmp_path, text)
    with pytest.raises(UserError, match=told):
        read_shape(tmp_path / "config.json")


def test_an_unknown_model_says_how_to_make_it_known() -> None:
    with pytest.raises(UserError, match=r"hf download someone/else config\.json"):
        find_shape(ModelConfig(name="someone/else"))


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["xmlgrpo-plan", *words])
        code = plan_command.run()
        return code, capsys.readouterr().out

    return call


TINY = "model: {name: tiny, backend: plain, device: cpu}\ngrpo: {max_steps: 20}\n"
LARGE = (
    "model: {name: google/gemma-3-1b-it, device: cuda}\n"
    "data: {source: hub}\n"
    "grpo: {per_device_train_batch_size: 64, max_steps: 5}\n"
)


def test_problems_that_are_not_there_yet_are_not_counted(command: Command) -> None:
    words = ("data.source=json", "data.path=/not/here/yet", "model.device=cpu")
    _, printed = command("--config", "configs/tiny.yaml", *words)
    assert re.search(r"problems +not known before loading *$", printed, re.MULTILINE)


def test_the_command_prints_numbers_for_machines(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    code, printed = command("--config", str(path), "--json", "grpo.max_steps=7")
    read = json.loads(printed)
    assert code == 0
    assert read["fits"] is True
    assert read["load"]["steps"] == 7
    assert read["load"]["rollouts"] == 7 * 8
    assert read["peak"]["total"] < 4


def test_the_command_says_what_to_change_and_fails(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "large.yaml"
    path.write_text(LARGE)
    code, printed = command("--config", str(path), "--gpu", "l4")
    assert code == 1
    assert "does not fit" in printed
    assert "fits with grpo.per_device_train_batch_size=" in printed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(["--gpu", "T5"], "did you mean", id="gpu-near-miss"),
        pytest.param(["--gpu", "T4", "grpo.lr=1"], "is not a field", id="unknown-field"),
        pytest.param(["--gpu", "T4", "model.device=cpu"], "add model.device=auto", id="cpu"),
        pytest.param(["--gpus", "0"], "--gpus: expected .* at least 1, got '0'", id="no-gpus"),
        pytest.param(["--gpus", "two"], "--gpus: expected .* at least 1, got 'two'", id="gpus"),
        pytest.param(
            ["--gpu", "T4", "--gpus", "2", "model.backend=unsloth"],
            "'unsloth', which trains on one GPU, but 2 processes were asked for",
            id="unsloth-on-two",
        ),
        pytest.param(["--gpu", "T4", "task=sql9"], "no task is named 'sql9'", id="task"),
        pytest.param(["--gpu", "T4", "grpo.num_generations=7"], "not a multiple", id="groups"),
        pytest.param(["--gpu", "T4", "grpo.max_completion_length=x"], "valid integer", id="type"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, command: Command, words: list[str], told: str
) -> None:
    path = tmp_path / "large.yaml"
    path.write_text(LARGE)
    with pytest.raises(UserError, match=told):
        command("--config", str(path), *words)


def test_a_gpu_that_is_asked_for_and_absent_can_be_named(tmp_path: Path, command: Command) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, so the error cannot come")
    path = tmp_path / "large.yaml"
    path.write_text(LARGE)
    with pytest.raises(UserError, match="--gpu T4"):
        command("--config", str(path))


def test_more_of_anything_never_needs_less() -> None:
    def total(**changes: Any) -> float:
        peak: Peak = estimate(load(**changes))
        return peak.total

    assert total(micro_batch=16) > total(micro_batch=8)
    assert total(completion_tokens=512) > total()
    assert total(rows=512) > total()
    assert total(held_out_rows=512, held_out_tokens=512) > total()
    assert total(rank=64) > total()
    assert total(second_pass=True) > total()
    assert total(engine="vllm", vllm_gib=8.0) > total() + 7.9


@pytest.mark.parametrize(
    ("full_name", "memory_gib", "name"),
    [
        ("Tesla T4", 14.6, "T4"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "A100-40"),
        ("NVIDIA A100-SXM4-80GB", 79.2, "A100-80"),
        ("NVIDIA A10G", 22.0, "A10G"),
        ("NVIDIA A10", 22.0, "A10"),
        ("NVIDIA GeForce RTX 4090", 23.5, "RTX 4090"),
        ("NVIDIA H100 80GB HBM3", 79.2, "H100"),
        ("NVIDIA L40S", 44.4, None),
    ],
)
def test_a_drivers_name_is_found_in_the_table(
    full_name: str, memory_gib: float, name: str | None
) -> None:
    found = nearest_gpu(full_name, memory_gib)
    assert (found and found.name) == name


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        pytest.param("nvidia0", True, id="nvidia"),
        pytest.param("nvhost-gpu", True, id="tegra"),
        pytest.param("dxg", True, id="wsl"),
        pytest.param("kfd", True, id="amd"),
        pytest.param("null", False, id="none"),
    ],
)
def test_a_driver_is_known_by_its_device_file(
    tmp_path: Path, device: str, *, expected: bool
) -> None:
    (tmp_path / device).touch()
    assert has_driver(tmp_path) is expected
