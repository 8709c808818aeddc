"""What a finished run leaves: the best adapter, the result after, curves, and last the manifest."""

from hashlib import file_digest
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_run.checkout import code_of
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import MANIFEST_FORMAT
from xmlgrpo_run.metric_names import words_of
from xmlgrpo_run.metrics import read_log
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_trainer.config.run_config import TINY, config_sha256
from xmlgrpo_trainer.prepare import Prepared
from xmlgrpo_trainer.problems.exam import Exam, HoldoutResult, save_result, take_shown
from xmlgrpo_trainer.problems.keep_best import load_best, save_adapter
from xmlgrpo_trainer.run.record import hardware, now, versions
from xmlgrpo_trainer.screen.result import draw_curves, show_end


def finish(run: Prepared, *, trainer: Any, exam: Exam, before: HoldoutResult, rollout: str) -> None:
    """Write what a finished run consists of, the manifest last, and print the result.

    Args:
        exam: asks the report problems as it did before training.
        before: the report problems before training.
        rollout: the name of the engine that drew the completions.
    """
    folder, ranks, console = run.folder, run.ranks, run.console
    steps = trainer.state.global_step
    best = load_best(folder, trainer.model)
    kept = steps if best is None else best
    ranks.on_first(lambda: save_adapter(trainer.model, folder.adapter, run.policy.tokenizer))
    after = take_shown(console, "final exam", exam, run.problems.report, kept)
    if not ranks.is_first:
        return
    save_result(folder.holdout_after, after)
    rows = list(read_log(folder.metrics).rows.values())
    title = f"{folder.root.name}: GRPO on {run.task.name}, {steps} steps"
    with Stage(console, "drawing the curves"):
        draw_curves(rows, folder.curves, title, words_of(run.task.name))
    manifest = describe(run, trainer.model, steps, kept, rollout)
    manifest["seconds"] = round(sum(row.get("step_time") or 0.0 for row in rows), 1)
    manifest |= adapter_hashes(folder.adapter)
    manifest["holdout"] = {
        "rows": len(after.items),
        "before": before.metrics(),
        "after": after.metrics(),
    }
    write_json(folder.manifest, manifest)
    show_end(console, manifest, folder, (before, after))


def adapter_hashes(adapter: Path) -> dict[str, str]:
    """SHA-256 of the adapter's weights and of its settings, whose scale changes it as much."""
    files = {
        "adapter_sha256": "adapter_model.safetensors",
        "adapter_config_sha256": "adapter_config.json",
    }
    hashes = {}
    for key, name in files.items():
        with (adapter / name).open("rb") as file:
            hashes[key] = file_digest(file, "sha256").hexdigest()
    return hashes


def describe(run: Prepared, model: Any, steps: int, kept: int, rollout: str) -> dict[str, Any]:
    """What the result depends on, for the manifest."""
    config, placement, problems = run.config, run.policy.placement, run.problems
    return {
        "format": MANIFEST_FORMAT,
        "run": run.folder.root.name,
        "finished": now(),
        "task": run.task.name,
        "format_version": FORMAT_VERSION,
        "base": {
            "name": run.base,
            "revision": config.model.revision,
            "dtype": placement.dtype,
            "quantized_4bit": config.model.load_in_4bit,
            "class": type(model.get_base_model()).__name__,
            "tiny": config.model.name == TINY,
        },
        "backend": placement.backend,
        "rollout": rollout,
        "seed": config.seed,
        "steps": steps,
        "best_step": kept,
        "data": {
            "source": config.data.source,
            "name": problems.source,
            "sha256": problems.sha256(),
            "train_rows": len(problems.train),
            "validation_rows": len(problems.validation),
            "holdout_rows": len(problems.report),
            "dropped_long": problems.dropped_long,
            "repeated": problems.repeated,
        },
        "rewards": dict(config.rewards),
        "config_sha256": config_sha256(config),
        "commit": code_of().commit,
        "versions": versions(),
        "hardware": {**hardware(placement.device), "processes": run.ranks.count},
    }
