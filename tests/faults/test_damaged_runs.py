"""Every fault at every file of a run, before every stage: one sentence, or what a sound run gives.

A disk fails, a copy is cut off, a file is edited, a folder or a link stands in a file's place.  No
model is loaded: these are the files that a stage reads before it asks one, and what it makes of
them.  `damage.ARTEFACTS` says which stages read which file, and a stage is tried on those only.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from damage import ARTEFACTS, artefact, every_fault, files_of, unnamed
from whole_runs import (
    CONFIG,
    IDENTITY,
    QUIET,
    models,
    write_base,
    write_exported,
    write_finished,
    write_unfinished,
)
from xmlgrpo_evaluator.journal import open_journal
from xmlgrpo_evaluator.models import run_model
from xmlgrpo_evaluator.results.result import read_result as read_evaluation
from xmlgrpo_evaluator.settings import Evaluation, own_items, run_settings
from xmlgrpo_exporter.check.questions import Comparison, Questions
from xmlgrpo_exporter.convert.export_plan import Export, plan_export
from xmlgrpo_exporter.merge.inputs import pristine_base, read_adapter
from xmlgrpo_exporter.proof.blockers import gate_problems, model_digests, result_problems
from xmlgrpo_exporter.publish.preflight import Destination
from xmlgrpo_exporter.publish.release import prepare_release
from xmlgrpo_exporter.transformers_model import hash_model
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.lock import one_writer
from xmlgrpo_run.manifest import read_manifest, require_as_trained, require_compared
from xmlgrpo_run.measures.holdout import read_result
from xmlgrpo_trainer.ask.source import of_model, of_run
from xmlgrpo_trainer.problems.keep_best import check_best, stopped_early
from xmlgrpo_trainer.resume.checkpoints import find_checkpoints, is_last
from xmlgrpo_trainer.resume.opening import open_run
from xmlgrpo_trainer.resume.record import write_record
from xmlgrpo_viewer.compare.compared import as_json, compare_runs
from xmlgrpo_viewer.page.report import render as render_report
from xmlgrpo_viewer.reading.run_view import read_run
from xmlgrpo_viewer.reading.sampled import read_sampled
from xmlgrpo_viewer.replay.rescored import rescore
from xmlgrpo_viewer.watch.screen import plain_line


def ask(run: RunFolder, _base: Path) -> object:
    return of_run(str(run.root), merged=False)


def evaluate(run: RunFolder, _base: Path) -> object:
    manifest = read_manifest(run)
    items = own_items(run, manifest)
    return [
        run_model(run, manifest, what) for what in ("base", "tuned")
    ], items and items.read_text()


def report(run: RunFolder, _base: Path) -> object:
    return render_report(read_run(run))


def watch(run: RunFolder, _base: Path) -> object:
    view = read_run(run)
    return plain_line(view), view.unread


def compare(run: RunFolder, _base: Path) -> object:
    other = RunFolder(run.root.with_name("other"))
    return as_json(compare_runs([run, other]))


def rescored(run: RunFolder, _base: Path) -> object:
    view = read_run(run)
    paid = [
        (one.before, one.after, one.is_right)
        for one in rescore(view, {"correctness_reward_func": 1.0})
    ]
    return paid, read_sampled(view)[1]


def ask_merged(run: RunFolder, _base: Path) -> object:
    return of_run(str(run.root), merged=True)


def ask_gguf(run: RunFolder, _base: Path) -> object:
    return of_model(str(run.gguf / "sums-q8_0.gguf"))


def eval_merged(run: RunFolder, _base: Path) -> object:
    return run_model(run, read_manifest(run), "merged")


def ladder(run: RunFolder, _base: Path) -> object:
    """What it reads instead of asking: a result that is gone is asked for again."""
    settings = run_settings(run, read_manifest(run), {})
    results = {}
    for label, model in models(run).items():
        out = settings.result_file(run.eval, label)
        if out.is_file():
            results[label] = read_evaluation(out, Evaluation(model, settings, out).identity("27c1"))
    return results


def journals(run: RunFolder, _base: Path) -> object:
    """What an evaluation goes on from: the replies, and in words what is damaged."""
    replies = {}
    for label, model in models(run).items():
        settings = run_settings(run, read_manifest(run), {})
        evaluation = Evaluation(model, settings, settings.result_file(run.eval, label))
        with open_journal(evaluation.journal, evaluation.identity("27c1")) as journal:
            replies[label] = journal.resumed, journal.damaged
    return replies


def gguf(run: RunFolder, _base: Path) -> object:
    source = hash_model(run.merged, QUIET)
    require_compared(run.merged, source.fingerprint)
    questions = Comparison(Questions("test", ("1 + 1?",)), QUIET, 1, 1)
    plan = plan_export(Export(run.gguf, "sums", ("q8_0",), False, questions), source)
    return plan.there


def locked(run: RunFolder, _base: Path) -> object:
    with one_writer(run.lock, "taken"):
        return read_run(run).state


def merge(run: RunFolder, _base: Path) -> object:
    manifest = read_manifest(run)
    adapter = read_adapter(run.adapter)
    require_as_trained(run, manifest, adapter.folder)
    return adapter, pristine_base(run, manifest.base, None, "auto")


def push(run: RunFolder, _base: Path) -> object:
    to = Destination("https://hub.example", "alice/sums", "main", private=True)
    given: dict[str, Any] = {"look_up": lambda hub_id: None, "secrets": (), "console": QUIET}
    release = prepare_release(run, to, ["adapter"], "google/gemma-3-1b-it", **given)
    digests = model_digests(release, QUIET)
    problems = [*gate_problems(release, digests, ungated=False), *result_problems(release, digests)]
    if problems:
        raise UserError("; ".join(problems))
    return [(file.target, file.sha256) for file in release.files]


def show(run: RunFolder, _base: Path) -> object:
    """The same training command again, after the end."""
    with open_run(run, CONFIG) as state:
        return state, read_manifest(run)


def go_on(run: RunFolder, base: Path) -> object:
    """The same training command again, before the end: what the next step stands on."""
    with open_run(run, CONFIG) as state:
        write_record(run, CONFIG, IDENTITY, {"grpo": {}, "lora": {}}, base)
        before = read_result(run.holdout_before)
        newest = find_checkpoints(run.checkpoints).newest
        step = 0 if newest is None else int(newest.name.removeprefix("checkpoint-"))
        check_best(run, step)
        weights = newest and (newest / "adapter_model.safetensors").read_bytes()
        ends = newest and (is_last(newest) or stopped_early(run, step))
        return state, before, step, weights, ends


# stage -> what writes the run that it is tried on, and what it makes of the files
STAGES: dict[str, tuple[Callable[[RunFolder, Path], None], Callable[[RunFolder, Path], object]]] = {
    "show": (write_finished, show),
    "continue": (write_unfinished, go_on),
    "watch": (write_unfinished, watch),
    "lock": (write_unfinished, locked),
    "ask": (write_finished, ask),
    "eval": (write_finished, evaluate),
    "merge": (write_finished, merge),
    "push": (write_finished, push),
    "compare": (write_finished, compare),
    "rescore": (write_finished, rescored),
    "report": (write_exported, report),
    "ladder": (write_exported, ladder),
    "journal": (write_exported, journals),
    "ask-merged": (write_exported, ask_merged),
    "ask-gguf": (write_exported, ask_gguf),
    "eval-merged": (write_exported, eval_merged),
    "gguf": (write_exported, gguf),
}
WRITERS = ("show", "continue", "journal", "lock")
NEEDS_BASE = ("continue", "ask", "eval", "merge", "ladder", "journal")
# an older sound checkpoint is as good as the newest
OLDER = "checkpoints/checkpoint-4/"


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["xmlgrpo"])


def is_older(path: Path, value: Any, _sound: Any) -> bool:
    return OLDER in str(path) and value[2] == 2


def is_named(path: Path, value: Any, _sound: Any) -> bool:
    """What a training may be writing just now, or has not written yet."""
    return path.name in str(value[1]) or path.name == "metrics.jsonl" or not os.path.lexists(path)


def is_told(path: Path, value: Any, _sound: Any) -> bool:
    """It says what is gone, and that a run without a manifest has stopped."""
    left_out = [line for line in value.splitlines() if "Left out: " in line]
    is_named = any(path.name in line or f"files of {path.parent.name}" in line for line in left_out)
    is_stopped = path.name == "manifest.json" and 'class="state stopped"' in value
    is_later = path.parent.name == "eval" or path.name == "ladder.json"
    return is_named or is_stopped or (is_later and not path.exists())


def is_asked_again(path: Path, value: Any, sound: Any) -> bool:
    """A result that is not there; a file that its user has removed is no rung."""
    return path.parent.name in ("eval", "gguf") and value.items() < sound.items()


def is_without_base(path: Path, value: Any, _sound: Any) -> bool:
    return path.name == "report-before.json" and "there is no base to compare with" in str(value)


def is_fewer(path: Path, value: Any, _sound: Any) -> bool:
    """Replies are asked again, and damage is named; a torn line is what a kill leaves."""
    resumed, damaged = value[path.name.removesuffix(".replies.jsonl")]
    return resumed < 3 and (damaged is not None or not path.read_bytes().startswith(b"[1]"))


def is_made_again(path: Path, value: Any, _sound: Any) -> bool:
    return value == {} and not path.exists()


def is_less(_path: Path, value: Any, sound: Any) -> bool:
    return set(value) < set(sound)


# where a stage may give another value than of a sound run, and no error
FALLBACKS: dict[str, Callable[[Path, Any, Any], bool]] = {
    "continue": is_older,
    "watch": is_named,
    "report": is_told,
    "ladder": is_asked_again,
    "compare": is_without_base,
    "journal": is_fewer,
    "gguf": is_made_again,
    "push": is_less,
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_says_what_is_damaged_or_does_as_with_a_sound_run(
    tmp_path: Path, stage: str
) -> None:
    write, read = STAGES[stage]
    there = tmp_path / "there"
    run, base = RunFolder(there / "outputs" / "sums"), there / "outputs" / "base"
    write_base(base)
    write(run, base)
    if stage == "compare":
        shutil.copytree(run.root, run.root.with_name("other"))
    run.lock.write_bytes(b"x")  # in an empty file there is nothing to damage

    def is_read(name: str) -> bool:
        path = there / name
        if not path.is_relative_to(run.root):
            return path.is_relative_to(base) and stage in NEEDS_BASE
        line = artefact(str(path.relative_to(run.root)))
        return line is not None and stage in ARTEFACTS[line].split()

    def is_fine(file: str, value: Any, sound: Any) -> bool:
        fallback = FALLBACKS.get(stage)
        return value == sound or (fallback is not None and fallback(there / file, value, sound))

    files = [name for name in files_of(there) if is_read(name)]
    assert files
    wrong = every_fault(there, files, lambda: read(run, base), is_fine, writes=stage in WRITERS)
    assert not wrong, "\n".join(wrong)


def test_every_artefact_that_is_read_is_damaged(tmp_path: Path) -> None:
    """Each line of `ARTEFACTS` has its file in what the tests write, and each file its line."""
    tried = set()
    for write in (write_unfinished, write_exported):
        run = RunFolder(tmp_path / write.__name__ / "outputs" / "sums")
        write_base(tmp_path / write.__name__ / "outputs" / "base")
        write(run, run.root.with_name("base"))
        assert unnamed(run.root) == []
        tried |= {artefact(name) for name in files_of(run.root)}
    elsewhere = {
        ".lock",
        ".merged.lock",
        "gguf/.lock",
        "gguf/*.Modelfile",
        "ladder.png",
    }  # of the exporter's tests
    read = {line for line, stages in ARTEFACTS.items() if stages}
    assert read - elsewhere <= tried
    assert {stage for stages in ARTEFACTS.values() for stage in stages.split()} <= set(STAGES)


def test_every_name_in_a_runs_folder_has_its_line() -> None:
    entries = [place for name in vars(RunFolder) if (place := place_of(name))]
    assert len(entries) > 20
    lines = [line.split("/")[0] for line in ARTEFACTS]
    assert [place for place in entries if place.split("/")[0] not in lines] == []


def place_of(name: str) -> str | None:
    found = getattr(RunFolder(Path()), name, None)
    return str(found) if isinstance(found, Path) and name != "root" else None
