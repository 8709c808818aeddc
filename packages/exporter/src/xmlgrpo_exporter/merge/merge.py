"""Merge the adapter into its base, and prove that the merged folder answers the same.

The base is loaded anew in float32 (never a 4-bit one: its rounding would be baked in), the adapter
is added there, and the sum is rounded once, to the number type that is saved.  The saved folder is
then loaded again and compared with adapter-on-base on real prompts; a folder that differs never
gets its final name.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from xmlgrpo_exporter.check.check_json import Gate
from xmlgrpo_exporter.check.distance import Distance, compare_logits, identical
from xmlgrpo_exporter.check.questions import Comparison
from xmlgrpo_exporter.merge.inputs import (
    OTHER_TEMPLATES,
    WEIGHT_BYTES,
    Adapter,
    Base,
    copy_tokenizer,
    pristine_base,
    read_adapter,
)
from xmlgrpo_exporter.quants import MERGE_LIMITS, Limits
from xmlgrpo_exporter.transformers_model import (
    LoadedModel,
    SourceModel,
    choose_device,
    hash_model,
    load_folder,
    load_libraries,
    load_tokenizer,
    load_weights,
    stored_weights,
)
from xmlgrpo_rewards.console_script import kept_on_interrupt
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.stop_tokens import stop_ids
from xmlgrpo_run.digests import model_digest
from xmlgrpo_run.disk import require_free
from xmlgrpo_run.files import read_sealed, remove, replacing, write_sealed
from xmlgrpo_run.folder import MERGE_RECORD, RunFolder
from xmlgrpo_run.lock import one_writer
from xmlgrpo_run.manifest import Manifest, files_of_base, require_as_trained, require_compared
from xmlgrpo_run.screen.console import quiet_retries
from xmlgrpo_run.screen.loading import loading_model
from xmlgrpo_run.screen.progress import Stage, growing
from xmlgrpo_run.screen.say import say

BUSY = "another export is writing into {}; wait for it, or give another --out"


@dataclass(frozen=True, slots=True)
class Merge:
    """One merge, as the command line says it."""

    run: RunFolder
    manifest: Manifest
    out: Path
    base: str | None  # instead of the manifest's
    dtype: str  # of the merged weights; "auto" for the one trained in
    comparison: Comparison


def merge_run(job: Merge) -> SourceModel | None:
    """Merge a run, unless that is done.

    Returns:
        The merged model; None when it does not answer as the adapter does: then it is kept beside
        `job.out`, named `.rejected`.

    Raises:
        UserError: the base or adapter cannot be used, they do not fit each other, `job.out` holds
            something else, the disk is too full, or another process is merging into it.
    """
    out, console = job.out, job.comparison.console
    if not out.name or out.name == "..":
        raise UserError(f"--out: expected a folder to make, got {str(out)!r}")
    with (
        kept_on_interrupt(lambda: _kept(out)),
        one_writer(out.with_name(f".{out.name}.lock"), BUSY.format(out.parent)),
    ):
        adapter = read_adapter(job.run.adapter)
        require_as_trained(job.run, job.manifest, adapter.folder)
        quiet_retries()
        with Stage(console, "looking at the base model"):
            base = pristine_base(job.run, job.manifest.base, job.base, job.dtype)
        source = {
            "adapter": model_digest(adapter.folder),
            "base": base.name,
            "revision": base.revision,
            "dtype": base.dtype,
        }
        if out.exists():
            there = hash_model(out, console)
            _require_same(there, source, any_dtype=job.dtype == "auto")
            say(console, escape(f"{out} is up to date"))
            return there
        load_libraries(console, "peft")
        with replacing(out) as folder:
            folder.mkdir()
            answers = _merge(job, adapter, base, folder)
            merged = load_folder(folder, job.comparison.device, console)
            gate = _compare(merged, answers, job.comparison, MERGE_LIMITS[base.dtype])
            fingerprint = hash_model(folder, console).fingerprint
            record = {
                "format": 1,
                "source": source,
                "base": {"name": base.name, "revision": base.revision},
                "trained_in_4bit": base.trained_in_4bit,
                "dtype": base.dtype,
                "class": type(merged.model).__name__,
                "stop_ids": list(merged.stop_ids),
                "fingerprint": fingerprint,
                "files": files_of_base(folder),
                "questions": {
                    "source": job.comparison.questions.source,
                    "count": len(answers.prompts),
                },
                "new_tokens": job.comparison.new_tokens,
                "parity": gate.as_json(),
            }
            write_sealed(folder / MERGE_RECORD, record)
            rejected = out.with_name(f"{out.name}.rejected")
            remove(rejected)
            if not gate.passed:
                folder.rename(rejected)
        _report(job, base, gate)
        return SourceModel(out, fingerprint) if gate.passed else None


def _kept(out: Path) -> str:
    """What Ctrl-C says: also of a merge that was there before, or had just got its name."""
    if out.exists():
        return f"{out} is kept; the same command looks at it again"
    return "nothing was merged; the same command merges from the start"


def _require_same(there: SourceModel, source: dict[str, Any], *, any_dtype: bool) -> None:
    """See that a folder holds the merge of this source, as it was compared with the adapter."""
    path = there.folder / MERGE_RECORD
    stored = read_sealed(path).get("source", {}) if os.path.lexists(path) else {}
    # with `any_dtype` a merge in another number type counts too: nobody asked for one
    if stored != (source | {"dtype": stored.get("dtype")} if any_dtype else source):
        raise UserError(
            f"{there.folder} holds another merge (of another adapter, base or --dtype) or another "
            "model, which is not overwritten; remove it or give --out"
        )
    require_compared(there.folder, there.fingerprint)


def _merge(job: Merge, adapter: Adapter, base: Base, folder: Path) -> "Answers":
    """Save the merged model into an empty folder; how the adapter on its base answers."""
    comparison, console = job.comparison, job.comparison.console
    width = WEIGHT_BYTES[base.dtype]
    if Path(base.source).is_dir():
        count, _ = stored_weights(Path(base.source))
        require_free(folder.parent, count * width, "the merged model")
    with loading_model(console, base.source, base.revision):
        weights = load_weights(base.source, base.revision, base.model_class)
    size = sum(weight.numel() for weight in weights.parameters()) * width
    require_free(folder.parent, size, "the merged model")
    with Stage(console, "adding tokenizer and adapter"):
        copy_tokenizer(adapter.folder, folder, base)
        tokenizer = load_tokenizer(folder)
        stops = tuple(stop_ids(weights, tokenizer))
        wrapped = _with_adapter(weights, adapter).to(choose_device(comparison.device)).eval()
    if (adapter.folder / OTHER_TEMPLATES).is_dir():
        say(console, f"left out: {OTHER_TEMPLATES}, with which the model was not asked in training")
    trained = LoadedModel(wrapped, tokenizer, stops)
    chats = comparison.chats(comparison.answered)
    prompts = trained.token_ids([prompt.text for prompt in trained.prompts(chats)])
    replies = trained.greedy(prompts, comparison.new_tokens, console, "replies of the adapter")
    with Stage(console, "its distributions to compare", unit="replies") as stage:
        asked = stage.through(list(zip(prompts, replies, strict=True)))
        logits = [trained.logits(prompt, reply) for prompt, reply in asked]
    words = f"merging and saving as {base.dtype}"
    with growing(console, words, size, lambda: folder.glob("*.safetensors")):
        _save(wrapped, folder, base.dtype, stops)
    return Answers(prompts, replies, logits)


@dataclass(frozen=True, slots=True)
class Answers:
    """Prompts, greedy replies to them, and the logits that predict these: (tokens, vocabulary)."""

    prompts: list[list[int]]
    replies: list[list[int]]
    logits: list[Any]


def _compare(merged: LoadedModel, before: Answers, comparison: Comparison, limits: Limits) -> Gate:
    console, prompts = comparison.console, before.prompts
    words = "replies of the merged model"
    replies = merged.greedy(prompts, comparison.new_tokens, console, words)
    distance = Distance()
    rows = list(zip(prompts, before.replies, before.logits, strict=True))
    with Stage(console, "comparing both", unit="replies") as stage:
        for prompt, reply, logits in stage.through(rows):
            distance += compare_logits(logits, merged.logits(prompt, reply))
    return parity_gate(distance, identical(before.replies, replies), len(prompts), limits)


def parity_gate(distance: Distance, same: int, prompts: int, limits: Limits) -> Gate:
    """Hold the distance between adapter-on-base and the merged folder against its limits."""
    share = same / prompts
    passed = distance.within(limits) and share >= limits.greedy_identical
    replies = {"greedy_identical": share, "identical_replies": same, "prompts": prompts}
    why = (
        "the merged folder does not answer as the adapter on its base does; nothing was exported. "
        "Check that adapter and base belong together, or try --dtype float32"
    )
    found, limit = {**distance.as_json(), **replies}, asdict(limits)
    return Gate("parity", passed, found, limit, "" if passed else why)


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


def _save(wrapped: Any, out: Path, dtype: str, stops: tuple[int, ...]) -> None:
    import torch

    merged = wrapped.merge_and_unload(safe_merge=True).to("cpu").to(getattr(torch, dtype))
    merged.generation_config.eos_token_id = list(stops)
    merged.save_pretrained(out)


def _report(job: Merge, base: Base, gate: Gate) -> None:
    console, source = job.comparison.console, job.comparison.questions.source
    say(console, escape(f"adapter against merged, {source}: {gate.numbers()}"))
    if base.trained_in_4bit:
        say(
            console,
            "trained on 4-bit weights: the adapter never saw this 16-bit base, so measure the "
            f"merged model as well: make ladder RUN={escape(job.run.called)}",
        )
    if gate.passed:
        say(console, escape(f"wrote {job.out}"))
    else:
        why = escape(f"{gate.why} (kept as {job.out}.rejected)")
        say(console, why, head="[bold red]refused[/]: ")
