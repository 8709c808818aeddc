"""The model card: the template filled from result files, then read once more for loose numbers."""

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from jinja2 import Environment, PackageLoader, StrictUndefined

from xmlgrpo_exporter.card.figures import (
    NUMBER,
    Code,
    Missing,
    Name,
    ResultFile,
    Table,
    UnsourcedNumberError,
    Words,
    markdown,
    numbers_without_source,
)
from xmlgrpo_exporter.card.front_matter import front_matter
from xmlgrpo_exporter.card.graded_on import GradedData, graded_data, made_of
from xmlgrpo_exporter.card.result_tables import (
    comparison_tables,
    evaluation_tables,
    gate_table,
    holdout_table,
    ladder_table,
    shown_rungs,
)
from xmlgrpo_exporter.card.results import RunResults
from xmlgrpo_exporter.card.run_tables import file_table, training_table
from xmlgrpo_exporter.check.conversations import conversations
from xmlgrpo_exporter.convert.modelfile import system_of
from xmlgrpo_exporter.convert.quants import FILE_TYPES
from xmlgrpo_exporter.hub.remote import DEFAULT_BRANCH
from xmlgrpo_exporter.upload.gates import published_labels
from xmlgrpo_exporter.upload.licence import GEMMA_POLICY, GEMMA_TERMS
from xmlgrpo_exporter.upload.subject import Subject
from xmlgrpo_rewards.errors import UserError

QUESTION = "your question"
REVISION = re.compile(r"[\w./-]+")  # what can stand in a line of code without saying more


@dataclass(frozen=True, slots=True)
class _Gguf:
    file: Code
    stem: Code
    type: Code | None
    modelfile: Code | None


@dataclass(frozen=True, slots=True)
class _Evaluation:
    task: Name
    what: Name | Words | Missing
    data: GradedData | None
    table: Table


def render_card(subject: Subject, results: RunResults) -> str:
    """The card as it is published, front matter included.

    Raises:
        UnsourcedNumberError: a number on it names no file.
    """
    environment = Environment(
        loader=PackageLoader("xmlgrpo_exporter"),
        autoescape=False,  # noqa: S701  the card is Markdown; values are neutralised in `figures`
        undefined=StrictUndefined,
        finalize=markdown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    body = environment.get_template("card.md.jinja").render(_context(subject, results))
    loose = numbers_without_source(body)
    if loose:
        raise UnsourcedNumberError(f"numbers on the card without a file behind them: {loose}")
    return f"---\n{front_matter(subject, results)}---\n\n{body.strip()}\n"


def _context(subject: Subject, results: RunResults) -> dict[str, object]:
    base, licence, manifest = subject.base, subject.licence, results.manifest
    chat = _chat(manifest and manifest.at("/task"))
    system = system_of(chat)
    published = published_labels(file.target for file in subject.files if file.kind == "weights")
    return {
        "title": _thing(PurePosixPath(subject.repo).name),
        "repo": Code(subject.repo),
        "revision": Code(subject.revision),
        "on_main": subject.revision == DEFAULT_BRANCH,
        "private": subject.private,
        "base": _name(base.label),
        "base_hub_id": Code(base.hub_id) if base.hub_id else None,
        "base_revision": _revision(base.revision),
        "tiny": base.tiny,
        "base_in_repo": subject.holds("base/config.json"),
        "adapter": subject.has_adapter,
        "adapter_folder": subject.holds("adapter/adapter_config.json"),
        "merged": subject.has_merged,
        "ggufs": [_gguf(subject, file) for file in subject.ggufs],
        "system_prompt": Code(system) if system else None,
        "system_shell": Code(shlex.quote(system)),
        "chat_literal": Code(json.dumps(chat, indent=4, ensure_ascii=False)),
        "holdout": manifest and holdout_table(manifest),
        "training": manifest and training_table(manifest, results.config),
        "evals": _evaluations(results),
        "ladder": results.ladder and ladder_table(results.ladder, published),
        "ladder_data": results.ladder
        and graded_data(results.ladder, str(results.ladder.at("/task")), results.evals),
        "ladder_ran": results.ladder is not None,
        "gates": gate_table(results),
        "checked": results.check is not None,
        "curves": results.curves is not None,
        "ladder_plot": results.ladder_plot is not None
        and results.ladder is not None
        and len(shown_rungs(results.ladder, published)) == len(results.ladder.at("/rungs") or ()),
        "files": file_table(subject.files),
        "licence": {
            "id": Name(licence.id),
            "name": _name(licence.name),
            "found_in": Words(licence.found_in),
        },
        "gemma_terms": Code(GEMMA_TERMS),
        "gemma_policy": Code(GEMMA_POLICY),
    }


def _chat(task: object) -> list[dict[str, str]]:
    """How the run's task asks; the plain reply format where it is not known or not installed."""
    try:
        return conversations([QUESTION], str(task) if task else None)[0]
    except UserError:
        return conversations([QUESTION], None)[0]


def _evaluations(results: RunResults) -> list[_Evaluation]:
    """The comparisons, and the evaluations of models that no comparison holds."""
    compared = [file for file in results.evals if file.at("/first") is not None]
    shown = [*compared, *(file for pair in compared for file in made_of(pair, results.evals))]
    alone = [file for file in results.evals if file not in shown]
    paired = Words("two models on the same problems")
    tables: list[tuple[ResultFile, Name | Words | Missing, list[tuple[str, Table]]]]
    tables = [(file, paired, comparison_tables(file)) for file in compared]
    tables += [(file, file.name("/label"), evaluation_tables(file)) for file in alone]
    return [
        _Evaluation(_thing(task), what, graded_data(file, task, results.evals), table)
        for file, what, titled in tables
        for task, table in titled
    ]


def _thing(name: str) -> Name:
    """What somebody called a thing; one that is all digits in quotes, so that it is no number."""
    return Name(f'"{name}"' if NUMBER.fullmatch(name) else name)


def _revision(text: str | None) -> Code | None:
    return Code(text) if text and REVISION.fullmatch(text) else None


def _name(text: str | None) -> Name | None:
    return _thing(text) if text else None


def _gguf(subject: Subject, file: str) -> _Gguf:
    stem = file.removesuffix(".gguf")
    modelfile = f"{stem}.Modelfile"
    return _Gguf(
        Code(file),
        Code(stem),
        _quant_type(file),
        Code(modelfile) if subject.holds(modelfile) else None,
    )


def _quant_type(file: str) -> Code | None:
    """The quantization in a GGUF's name, as Ollama wants it: `gsm8k-q4_k_m.gguf` -> `Q4_K_M`."""
    stem = file.removesuffix(".gguf").lower()
    return _longest(name for name in FILE_TYPES if stem.endswith(("-" + name, "." + name, name)))


def _longest(names: Iterable[str]) -> Code | None:
    found = max(names, key=len, default=None)
    return None if found is None else Code(found.upper())
