"""The stages of the experiment; each adds what it found to the report."""

import dataclasses
import gc
import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from corpus import Corpus, Mixture, Recipe
from curriculum import generate
from exams import ask
from pretrain import pretrain
from scales import Scale
from splits import Splits
from told import Report, told

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import SYSTEM
from xmlgrpo_rewards.task import get_task
from xmlgrpo_run.files import write_json, write_text
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.metrics import read_log
from xmlgrpo_trainer.config.defaults import completion_limit
from xmlgrpo_trainer.config.run_config import RunConfig, load_config
from xmlgrpo_trainer.model.load import choose_placement
from xmlgrpo_trainer.tiny.examples import prompt_texts, target
from xmlgrpo_trainer.tiny.model import make_model
from xmlgrpo_trainer.tiny.story import Row
from xmlgrpo_trainer.tiny.tokenizer import TURN_END, train_tokenizer

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "grpo.yaml"
MADE = "pretraining.json"  # in the model's folder, written last
# the modules of this folder that decide what the pretrained model is
DECIDE = (
    *("curriculum", "counting", "measuring", "saying", "renumber", "sums", "corpus", "pretrain"),
)
RETOLD_SHARE = 0.75
WORKED_BEFORE, WORKED_HABIT, TAGGED = 0.9, 0.3, 0.4  # as in the embedded default
TOKENIZER_ROWS = 10_000  # made up, and as many of GSM8K's
STOPPED_S = 90  # for saving, after GRPO was told to stop


def grpo_config(scale: Scale) -> RunConfig:
    """`grpo.yaml` at this scale."""
    return load_config(CONFIG, [*scale.overrides, f"grpo.max_steps={scale.grpo_steps}"])


def pretraining(folder: Path, splits: Splits, scale: Scale, seed: int, report: Report) -> None:
    """Make the tokenizer and the model, unless the folder holds them already.

    Raises:
        UserError: the folder holds a model that was made otherwise.
    """
    made_from = _made_from(scale, seed, splits)
    if (folder / MADE).is_file():
        stored = json.loads((folder / MADE).read_text(encoding="utf-8"))
        if stored["made_from"] != made_from:
            raise UserError(f"{folder} was pretrained otherwise; remove it, or name another --work")
        report.say("the pretrained model is there and is used again")
        report.add("pretraining", stored)
        return
    if folder.is_dir():
        raise UserError(f"{folder} holds half a model; remove it, or name another --work")
    exclude = splits.not_pretrained_on()
    rows = generate(TOKENIZER_ROWS, f"tokenizer {seed}", easy=scale.easy_share, exclude=exclude)
    with report.timed("tokenizer"):
        texts = _texts([*rows, *splits.pretraining[:TOKENIZER_ROWS]])
        tokenizer = train_tokenizer(folder, texts, scale.shape.vocab_size)
    before, after = prompt_texts(tokenizer, ["\x00"])[0].split("\x00")
    recipe = Recipe(
        tokenizer=str(folder / "tokenizer.json"),
        before=before,
        after=after,
        turn_end=TURN_END,
        rows=splits.pretraining,
        exclude=exclude,
        max_tokens=scale.max_tokens,
        batch_tokens=scale.batch_tokens,
        seed=seed,
    )
    mixture = Mixture(scale.gsm8k_share, RETOLD_SHARE, scale.easy_share, WORKED_BEFORE, TAGGED)
    device = choose_placement(grpo_config(scale).model).device
    model = make_model(scale.shape, tokenizer, seed).to(device)
    curve: list[dict[str, float]] = []

    def on_progress(row: dict[str, float]) -> None:
        curve.append(row)
        if len(curve) % 5 == 1:
            speed = row["tokens"] / max(row["seconds"], 0.1)
            report.say(f"step {row['step']}  loss {row['loss']:.3f}  {speed:,.0f} tokens/s")

    corpus = Corpus(recipe, mixture, scale.workers)
    with report.timed("pretraining"):
        try:
            end = pretrain(
                model,
                corpus,
                seconds=scale.pretrain_s,
                habit_worked=WORKED_HABIT,
                dtype=torch.bfloat16 if device == "cuda" else torch.float32,
                on_progress=on_progress,
            )
        finally:
            corpus.close()
        model.save_pretrained(folder)
    made = {
        "made_from": made_from,
        "weights": sum(weight.numel() for weight in model.parameters()),
        "vocabulary": len(tokenizer),
        "end": end,
        "curve": curve,
    }
    write_json(folder / MADE, made)
    report.add("pretraining", made)


def _made_from(scale: Scale, seed: int, splits: Splits) -> str:
    """What decides the pretrained model, as a hash: settings, rows and this code."""
    settings = dataclasses.asdict(scale)
    for name in ("grpo_steps", "grpo_s", "overrides", "gsm8k_test"):
        settings.pop(name)
    digest = hashlib.sha256(json.dumps([settings, seed, splits.pretraining]).encode())
    for source in DECIDE:
        digest.update((HERE / f"{source}.py").read_bytes())
    return digest.hexdigest()


def _texts(rows: Iterable[Row]) -> list[str]:
    """What the model will read and write, the kinds of answer in equal parts."""
    texts = []
    for number, row in enumerate(rows):
        reply = target(row["answer"], worked=number % 2 == 0, tagged=number % 4 < 2)
        texts += [SYSTEM, row["question"], reply]
    return texts


def exam(
    when: str, folder: Path, adapter: Path | None, *, splits: Splits, scale: Scale, report: Report
) -> None:
    """Ask the model, by itself and made to work, and report the results under `when`."""
    config = grpo_config(scale)
    placement = choose_placement(config.model)
    task = get_task(config.task)
    sets: dict[str, Sequence[Row]] = {
        "made-up held-out": splits.held_out,
        "GSM8K test": splits.test,
    }
    with report.timed(f"exam {when}"):
        results = ask(
            folder,
            adapter,
            {
                name: [task.example(row, f"{name}:{n}") for n, row in enumerate(rows, start=1)]
                for name, rows in sets.items()
            },
            task,
            device=placement.device,
            dtype=placement.dtype,
            rollout=config.rollout,
            max_new_tokens=completion_limit(config),
        )
    report.add(when, {name: told(result) for name, result in results.items()})
    for name, result in results.items():
        lenient, strict = result.share("lenient_correct"), result.share("strict_correct")
        report.say(f"{when}, {name}: lenient {lenient}  strict {strict}")


def grpo(
    work: Path,
    splits: Splits,
    scale: Scale,
    *,
    seed: int,
    overrides: Sequence[str],
    report: Report,
) -> Path:
    """Run `xmlgrpo-train`, for so many steps and seconds at most.

    Returns:
        The folder of the adapter: the run's own, or the last checkpoint when the time was over.

    Raises:
        UserError: the run failed, or had no time for its first checkpoint.
    """
    folder, data = RunFolder(work / "run"), work / "data"
    gc.collect()
    torch.cuda.empty_cache()  # what this process was done with would be missing in the next one
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in splits.grpo]
    write_text(data / "train.jsonl", "".join(lines))
    command = [
        *(sys.executable, "-m", "xmlgrpo_trainer.cli", "--config", str(CONFIG)),
        *("--run", str(folder.root.resolve()), "--seed", str(seed)),
        f"model.name={(work / 'model').resolve()}",
        f"data.path={data.resolve()}",
        *scale.overrides,
        f"grpo.max_steps={scale.grpo_steps}",
        *overrides,
    ]
    with report.timed("grpo"):
        training = subprocess.Popen(command)
        try:
            code = training.wait(scale.grpo_s)
        except subprocess.TimeoutExpired:
            report.say("the time for GRPO is over: it saves and stops")
            training.send_signal(signal.SIGTERM)
            code = training.wait(STOPPED_S)
    if code not in (0, 128 + signal.SIGTERM):
        raise UserError(f"xmlgrpo-train ended with exit code {code}; its lines above say why")
    found: dict[str, Any] = {
        "finished": code == 0,
        "manifest": folder.read_manifest() if code == 0 else None,
        "curve": list(read_log(folder.metrics).rows.values()),
    }
    report.add("grpo", found)
    if code == 0:
        return folder.adapter
    saved = sorted(folder.checkpoints.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    if not saved:
        raise UserError("GRPO was stopped before its first step was saved; raise --grpo-s")
    return saved[-1]
