"""Merge the adapter into its base, and prove that the merged folder answers the same.

The base is loaded anew in float32 (never a 4-bit one: its rounding would be baked in), the adapter
is added there, and the sum is rounded once, to the number type that is saved.  The saved folder is
then loaded again and compared with adapter-on-base on real prompts; a folder that differs never
gets its final name.
"""

from pathlib import Path
from typing import Any

from rich.console import Console

from xmlgrpo_exporter.check.distance import Distance, compare_logits, identical
from xmlgrpo_exporter.check.gate import Gate, all_passed
from xmlgrpo_exporter.check.reference import (
    Reference,
    load_model,
    load_reference,
    load_tokenizer,
)
from xmlgrpo_exporter.convert.quants import Limits
from xmlgrpo_exporter.merge.adapter import Adapter
from xmlgrpo_exporter.merge.base import BYTES_A_WEIGHT, Base
from xmlgrpo_exporter.merge.stored_weights import weights_of
from xmlgrpo_exporter.merge.tokenizer import copy_tokenizer
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.stop_tokens import stop_ids
from xmlgrpo_run.digests import hash_ahead, model_digest, model_files
from xmlgrpo_run.disk import require_free
from xmlgrpo_run.files import remove, write_json
from xmlgrpo_run.folder import MERGE_RECORD
from xmlgrpo_run.screen.growing_file import growing
from xmlgrpo_run.screen.loading import loading_model
from xmlgrpo_run.screen.progress import Stage

# Rounding is all that may differ.  In float32 that is the last bit of a sum.
LIMITS = {
    "float32": Limits(mean_kl=1e-5, top1=0.995, greedy_identical=0.9),
    "bfloat16": Limits(mean_kl=5e-3, top1=0.98, greedy_identical=0.6),
    "float16": Limits(mean_kl=1e-3, top1=0.99, greedy_identical=0.75),
}


def merge(
    *,
    adapter: Adapter,
    base: Base,
    dtype: str,
    partial: Path,
    out: Path,
    source: dict[str, Any],
    conversations: list[list[dict[str, str]]],
    asked_source: str,
    new_tokens: int,
    device: str,
    console: Console,
) -> Gate:
    """Merge, save to a temporary folder, load again, compare.

    Args:
        adapter: what is merged.
        base: what it is merged into.
        dtype: of the saved weights.
        partial: an empty folder beside `out` to save to.
        out: the folder's name in the end, which the caller gives it (`replacing`).
        source: stored in `merge.json`, to know this merge again.
        conversations: the prompts that both sides answer.
        asked_source: where those came from, for the record.
        new_tokens: longest reply that is compared.
        device: "cpu" or "cuda".
        console: shows how far it is.

    Returns:
        The parity gate.  When it failed, the folder is beside `out`, named `.rejected`.

    Raises:
        UserError: the adapter does not fit the base, or the disk is too full.
    """
    width = BYTES_A_WEIGHT[dtype]
    if Path(base.name).is_dir():
        parameters, _ = weights_of(Path(base.name))
        require_free(out.parent, parameters * width, "the merged model")
    with loading_model(console, base.name, base.revision):
        model = load_model(base.name, revision=base.revision, model_class=base.model_class)
    parameters = sum(weight.numel() for weight in model.parameters())
    require_free(out.parent, parameters * width, "the merged model")
    with Stage(console, "adding tokenizer and adapter"):
        copy_tokenizer(adapter.folder, base, partial)
        tokenizer = load_tokenizer(partial)
        stops = tuple(stop_ids(model, tokenizer))
        wrapped = _with_adapter(model, adapter).to(device).eval()
    trained = Reference(wrapped, tokenizer, stops)
    _, prompts = trained.encode(conversations)
    count = len(prompts)
    with Stage(console, "replies of the adapter", total=count, unit="replies") as stage:
        trained_replies = trained.greedy(prompts, new_tokens, stage.update)
    trained_logits = []
    with Stage(console, "its distributions to compare", total=count, unit="replies") as stage:
        for prompt, reply in zip(prompts, trained_replies, strict=True):
            trained_logits.append(trained.logits(prompt, reply))
            stage.update(len(trained_logits))

    words, expected = f"merging and saving as {dtype}", parameters * width
    with growing(console, words, expected, lambda: partial.glob("*.safetensors")):
        _save(wrapped, partial, dtype=dtype, stops=stops)
    del wrapped, model, trained

    with loading_model(console, str(partial), None):
        merged = load_reference(partial, device)
    with Stage(console, "replies of the merged model", total=count, unit="replies") as stage:
        merged_replies = merged.greedy(prompts, new_tokens, stage.update)
    distance = Distance()
    compared = zip(prompts, trained_replies, trained_logits, strict=True)
    with Stage(console, "comparing both", total=count, unit="replies") as stage:
        for done, (prompt, reply, logits) in enumerate(compared, 1):
            distance += compare_logits(logits, merged.logits(prompt, reply))
            stage.update(done)
    gate = parity_gate(distance, identical(trained_replies, merged_replies), len(prompts), dtype)

    hash_ahead(model_files(partial), console, "hashing the merged model")
    write_json(
        partial / MERGE_RECORD,
        {
            "format": 1,
            "source": source,
            "base": {"name": base.name, "revision": base.revision},
            "trained_in_4bit": base.trained_in_4bit,
            "dtype": dtype,
            "class": type(merged.model).__name__,
            "stop_ids": list(stops),
            "fingerprint": model_digest(partial),
            "questions": {"source": asked_source, "count": len(prompts)},
            "new_tokens": new_tokens,
            "parity": gate.as_json(),
        },
    )
    rejected = out.with_name(f"{out.name}.rejected")
    remove(rejected)
    if not all_passed([gate]):
        partial.rename(rejected)
    return gate


def parity_gate(distance: Distance, same: int, prompts: int, dtype: str) -> Gate:
    """Hold the distance between adapter-on-base and the merged folder against its limits."""
    limits = LIMITS[dtype]
    share = same / prompts
    passed = (
        distance.mean_kl <= limits.mean_kl
        and distance.top1 >= limits.top1
        and share >= limits.greedy_identical
    )
    why = (
        ""
        if passed
        else "the merged folder does not answer as the adapter on its base does; nothing was "
        "exported. Check that adapter and base belong together, or try --dtype float32"
    )
    return Gate(
        "parity",
        passed,
        found={
            **distance.as_json(),
            "greedy_identical": share,
            "identical_replies": same,
            "prompts": prompts,
        },
        limit={
            "mean_kl": limits.mean_kl,
            "top1": limits.top1,
            "greedy_identical": limits.greedy_identical,
        },
        why=why,
    )


def _with_adapter(model: Any, adapter: Adapter) -> Any:
    from peft import PeftModel, get_peft_model_state_dict

    wrapped = PeftModel.from_pretrained(model, adapter.folder)
    loaded = set(get_peft_model_state_dict(wrapped))
    if loaded != adapter.tensors:
        lost = sorted(adapter.tensors - loaded) or sorted(loaded - adapter.tensors)
        raise UserError(
            f"the adapter in {adapter.folder} does not fit its base: "
            f"{len(loaded ^ adapter.tensors)} tensors have no counterpart, such as {lost[0]}. "
            "Give the model it was trained on with --base"
        )
    return wrapped


def _save(wrapped: Any, out: Path, *, dtype: str, stops: tuple[int, ...]) -> None:
    import torch

    merged = wrapped.merge_and_unload(safe_merge=True).to("cpu").to(getattr(torch, dtype))
    merged.generation_config.eos_token_id = list(stops)
    merged.save_pretrained(out)
