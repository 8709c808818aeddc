"""The model card: the template filled from result files, then read once more for loose numbers."""

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.filesize import decimal

from xmlgrpo_exporter.card import numbers
from xmlgrpo_exporter.card.metadata import eval_results, front_matter
from xmlgrpo_exporter.check.questions import system_of
from xmlgrpo_exporter.check.verdict import RULES
from xmlgrpo_exporter.publish.base_and_licence import GEMMA_POLICY, GEMMA_TERMS
from xmlgrpo_exporter.publish.release import CARD, Release
from xmlgrpo_exporter.publish.results import ResultFile
from xmlgrpo_exporter.publish.upload_files import made_file
from xmlgrpo_exporter.quants import FILE_TYPES
from xmlgrpo_gguf.template import Template, renderer
from xmlgrpo_rewards import reply, task
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import printable
from xmlgrpo_run.files import MAX_OTHER_BYTES, read_bytes
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.prompt import Messages, write_prompt
from xmlgrpo_run.screen.metric_names import metric_names, words_of

QUESTION = "your question"


def _gate_name(name: str) -> str:
    """A gate of ours in words; any other name as code."""
    return name.replace("_", " ") if name in (*RULES, "parity") else numbers.code(name)


TEMPLATES = Environment(
    loader=PackageLoader("xmlgrpo_exporter", "card"),
    autoescape=False,  # noqa: S701  the card is Markdown; `code` neutralises what others wrote
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.globals |= vars(numbers) | {"size": decimal, "gate_name": _gate_name}


class LooseNumberError(Exception):
    """The card states a number that names no file: a bug, not a user's mistake."""


def with_card(release: Release, secrets: Sequence[bytes]) -> Release:
    """The release with its card, and with the results that the Hub's leaderboards read.

    Raises:
        LooseNumberError: a number on the card names no file.
        UserError: a result file holds what no command writes, or the card would hold a secret.
    """
    scores = eval_results(release)
    if scores is not None:
        release = release.plus(made_file(".eval_results/xmlgrpo.yaml", "result", scores, secrets))
    body = TEMPLATES.get_template("card.md.jinja").render(_context(release))
    if loose := numbers.loose_numbers(body):
        raise LooseNumberError(f"numbers on the card without a file behind them: {loose}")
    card = f"---\n{front_matter(release)}---\n\n{body.strip()}\n"
    return release.plus(made_file(CARD, "card", card.encode(), secrets))


def _context(release: Release) -> dict[str, Any]:
    results = release.results
    task_name = str(results.manifest.at("task")) if results.manifest else None
    chat = _as_told(_chat(task_name), release.run)
    rungs = _shown_rungs(results.ladder, release.labels) if results.ladder else []
    are_all = results.ladder is not None and len(rungs) == len(results.ladder.at("rungs"))
    return {
        "release": release,
        "to": release.to,
        "base": release.base,
        "licence": release.licence,
        "results": results,
        "ggufs": [_gguf(release, file) for file in release.ggufs],
        "system_prompt": _fenced(system_of(chat)),
        "question": "" if QUESTION in chat[-1]["content"] else _fenced(chat[-1]["content"]),
        "system_shell": _fenced(shlex.quote(system_of(chat))),
        "chat_literal": _fenced(json.dumps(chat, indent=4, ensure_ascii=False)),
        "known_metrics": metric_names(words_of(task_name or "")),  # no sums where none are asked
        "compared": list(_tables(results.evaluations, compared=True)),
        "alone": list(_tables(results.evaluations, compared=False)),
        "rungs": rungs,
        "shows_ladder_plot": are_all and release.holds("results/ladder.png"),
        "gates": list(_gates(results.merge, results.check)),
        "gemma_terms": GEMMA_TERMS,
        "gemma_policy": GEMMA_POLICY,
    }


def _chat(task_name: str | None) -> list[dict[str, str]]:
    """How the run's task asks; the plain reply format where it is not known or not installed.

    A task that makes rows shows one, since its questions have a form of their own; no row of the
    user's, which may be nobody else's.
    """
    try:
        asking = task.get_task(task_name) if task_name else None
    except UserError:
        asking = None
    if asking is None:
        return reply.messages(QUESTION)
    made = task.extras(asking).generated
    row = next(iter(made(1, 0)), None) if made else None
    return asking.messages(asking.example(row, "made").question if row else QUESTION)


def _as_told(chat: Messages, run: RunFolder) -> Messages:
    """The chat in the form that the run's template can write; as it is where there is none."""
    places = [folder / "chat_template.jinja" for folder in (run.adapter, run.merged, run.root)]
    template = next((path for path in places if path.is_file()), None)
    if template is None:
        return chat
    most = MAX_OTHER_BYTES[".jinja"]
    text = read_bytes(template, most)[:most].decode("utf-8", "replace")
    try:
        return write_prompt(renderer(Template(text)), chat).chat
    except UserError:
        return chat


def _fenced(text: str) -> str:
    """Text for a code block, which it cannot end."""
    return printable(text).replace("```", '"""')


def _gguf(release: Release, file: str) -> dict[str, str | None]:
    """A GGUF file: its name, its Modelfile, and its quantization as Ollama wants it (`Q4_K_M`)."""
    stem = file.removesuffix(".gguf")
    modelfile = f"{stem}.Modelfile"
    quants = [quant for quant in FILE_TYPES if stem.lower().endswith(quant)]
    return {
        "file": file,
        "stem": stem,
        "modelfile": modelfile if release.holds(modelfile) else None,
        "quant": max(quants, key=len, default="").upper(),
    }


def _tables(files: Sequence[ResultFile], *, compared: bool) -> Iterator[tuple[ResultFile, str]]:
    """The comparisons, or the evaluations that no comparison holds, with each of their tasks."""
    pairs = [file for file in files if file.at("first") is not None]
    in_pairs = {
        pair.target.replace("/compare", f"/{pair.at(key)}")
        for pair in pairs
        for key in ("first", "second")
    }
    alone = (file for file in files if file not in pairs and file.target not in in_pairs)
    for file in pairs if compared else alone:
        for name in file.at("tasks"):
            yield file, name


def _shown_rungs(ladder: ResultFile, published: Sequence[str]) -> list[ResultFile]:
    """The rungs of what is published, of what that is made of, and of the base.

    A file that nobody can have is none of them.
    """
    rungs = ladder.at("rungs")
    shown = {"base", *published}
    for rung in reversed(rungs):  # what a model is made of stands above it
        if rung.get("label") in shown:
            shown.add(str(rung.get("against")))
    return [ladder.part("rungs", n) for n, rung in enumerate(rungs) if rung.get("label") in shown]


def _gates(
    merge: ResultFile | None, check: ResultFile | None
) -> Iterator[tuple[str, str, ResultFile, list[str]]]:
    """The gates of merge and export: the model, the gate's name, what it found, what it limits."""
    gates = [] if merge is None else [("merged", "parity", merge.part("parity"))]
    if check is not None:
        gates += [
            (model, name, check.part("files", model, "gates", name))
            for model in check.at("files") or {}
            for name in check.at("files", model, "gates") or {}
        ]
    for model, name, gate in gates:
        limits = gate.at("limit") or {}
        yield model, name, gate, [k for k in limits if isinstance(gate.at("found", k), int | float)]
