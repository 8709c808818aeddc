"""How often does the model solve each training problem?  The file that `sampling.rates` reads.

    make passrate CONFIG=configs/gemma3-1b.yaml
    python -m xmlgrpo_trainer.passrate --config configs/gemma3-1b.yaml --samples 16

The problems are those that a run of this configuration trains on, asked as it asks them.  A second
call goes on where the first one was stopped.  Beside FILE.jsonl stands FILE.json: of which model,
drawn how, and how many problems are solved how often.
"""

import argparse
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from xmlgrpo_gguf.threads import let_threads_sleep
from xmlgrpo_rewards.console_script import kept_on_interrupt, path_argument, run_command, within
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_run.files import read_json, write_json, write_json_lines
from xmlgrpo_run.folder import run_folder

if TYPE_CHECKING:
    from rich.console import Console

    from xmlgrpo_rewards.task import Example, Task
    from xmlgrpo_rollout.engine import Completion
    from xmlgrpo_trainer.config.run_config import RunConfig

PLAIN = {"backend": "plain"}
TRLS_SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": None, "min_p": None}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="passrate", description=__doc__.splitlines()[0])
    made.add_argument("--config", type=path_argument, required=True)
    made.add_argument(
        "--samples", type=within(1, 10_000), default=16, help="replies to a problem; default 16"
    )
    made.add_argument("--out", type=Path, help="default: outputs/CONFIG.passrate.jsonl")
    made.add_argument("overrides", nargs="*", metavar="key=value")
    return made


def main() -> None:
    """Entry point of `make passrate`."""
    run_command(run)


@kept_on_interrupt("what was asked is kept; run the same command again to go on")
def run() -> int:
    """Parse the command line, ask, return the exit code."""
    arguments = parser().parse_intermixed_args()

    from xmlgrpo_trainer.config.run_config import load_config
    from xmlgrpo_trainer.prepare import check_names, refuse_early

    config = load_config(arguments.config, arguments.overrides)
    refuse_early(config, 1)
    check_names(config)
    runs = run_folder(arguments.config.stem).root.parent
    out = arguments.out or runs / f"{arguments.config.stem}.passrate.jsonl"
    let_threads_sleep()
    from xmlgrpo_run.screen.console import make_console, quiet_libraries

    quiet_libraries()
    return measure(config, out, arguments.samples, runs, make_console())


def measure(config: "RunConfig", out: Path, samples: int, runs: Path, console: "Console") -> int:
    """Ask every training problem that is not in the file yet, and tell what there is.

    Args:
        out: a line a problem: `id`, `question`, `right` (whatever the reply's form), `strict` (in
            the form) and `asked`.
        runs: the folder of the runs, beside which the tiny model is kept.

    Raises:
        UserError: the problems or the model cannot be read; the file is of another model, of other
            problems or other settings.
    """
    from xmlgrpo_run.screen.loading import loading_model, reading_libraries
    from xmlgrpo_run.screen.progress import Stage
    from xmlgrpo_trainer.prepare import LIBRARY_MODULES, base_model

    with reading_libraries(console, LIBRARY_MODULES):
        import torch

        from xmlgrpo_rewards.task import get_task
        from xmlgrpo_rollout.choice import choose_engine
        from xmlgrpo_rollout.stop_tokens import stop_ids
        from xmlgrpo_trainer.config.run_config import completion_limit
        from xmlgrpo_trainer.grpo.trainer import rollout_sampling
        from xmlgrpo_trainer.model.load import choose_placement, load_policy
        from xmlgrpo_trainer.problems.prompts import encode_prompts
        from xmlgrpo_trainer.problems.split import drop_long, load_problems
    # Unsloth has nothing to add where nothing is trained
    config = config.model_copy(update={"model": config.model.model_copy(update=PLAIN)})
    placement, task = choose_placement(config.model), get_task(config.task)
    problems = load_problems(config, task)
    base = base_model(config, runs, console)
    with loading_model(console, base, config.model.revision):
        policy = load_policy(config, base, placement)
    asked = drop_long(problems, task, policy.tokenizer, config.data.max_prompt_tokens).train
    drawn = SimpleNamespace(**TRLS_SAMPLING | config.grpo)
    sampling = rollout_sampling(drawn, completion_limit(config))
    policy.model.eval()
    choice = choose_engine(
        config.rollout if config.rollout != "vllm" else "auto",
        policy.model,
        policy.tokenizer,
        stop_ids(policy.model, policy.tokenizer),
    )
    about = _about(config, base, problems.sha256(), samples, choice.name)
    done = _done(out, about)
    left = [problem for problem in asked if problem.question not in done]
    together = max(1, config.holdout.batch_size)
    began = time.monotonic()
    with Stage(console, "asking", total=len(asked), unit="problems") as stage:
        stage.count_from(len(asked) - len(left), len(asked))
        for start in range(0, len(left), together):
            some = left[start : start + together]
            torch.manual_seed(config.seed + len(done))
            prompts = encode_prompts(policy.tokenizer, [task.messages(p.question) for p in some])
            replies = choice.engine(prompts, samples, sampling)
            rows = counted(task, some, replies, policy.tokenizer)
            done |= {row["question"]: row for row in rows}
            write_json_lines(out, done.values())  # never half a line
            stage.update(len(asked) - len(left) + start + len(some))
    told = summary([done[problem.question] for problem in asked])
    write_json(
        out.with_suffix(".json"), {**about, **told, "seconds": round(time.monotonic() - began, 1)}
    )
    _show(console, told, out)
    return 0


def counted(
    task: "Task", problems: "Sequence[Example]", replies: "Sequence[Completion]", tokenizer: Any
) -> list[dict[str, Any]]:
    """A row a problem, of all completions of the first, then of the next."""
    from xmlgrpo_rewards.grading import grade_all

    samples = len(replies) // len(problems)
    texts = tokenizer.batch_decode([reply.tokens for reply in replies], skip_special_tokens=True)
    grades = grade_all(task, texts, [p for p in problems for _ in range(samples)])
    rows = []
    for number, problem in enumerate(problems):
        own = grades[number * samples : (number + 1) * samples]
        rows.append(
            {
                "id": problem.id,
                "question": problem.question,
                "right": sum(grade.lenient_correct for grade in own),
                "strict": sum(grade.strict_correct for grade in own),
                "asked": samples,
            }
        )
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many problems are solved how often."""
    total = sum(row["asked"] for row in rows)
    return {
        "problems": len(rows),
        "right": sum(row["right"] for row in rows) / total,
        "strict": sum(row["strict"] for row in rows) / total,
        "mixed": sum(0 < row["right"] < row["asked"] for row in rows) / len(rows),
        "problems_by_right": dict(sorted(Counter(row["right"] for row in rows).items())),
    }


def _about(
    config: "RunConfig", base: str, problems: str, samples: int, engine: str
) -> dict[str, Any]:
    """Where the rates are from; the same for a call that goes on."""
    from xmlgrpo_run.digests import model_digest
    from xmlgrpo_trainer.config.run_config import completion_limit
    from xmlgrpo_trainer.resume.record import versions

    folder = Path(base)
    return {
        "model": folder.name if folder.is_dir() else base,
        "model_digest": model_digest(folder) if folder.is_dir() else config.model.revision,
        "task": config.task,
        "reply_form": FORMAT_VERSION,
        "problems_sha256": problems,
        "samples": samples,
        "sampling": {name: config.grpo.get(name, value) for name, value in TRLS_SAMPLING.items()},
        "max_new_tokens": completion_limit(config),
        "seed": config.seed,
        "engine": engine,
        "versions": versions(),
    }


def _done(out: Path, about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What an earlier call has asked."""
    from xmlgrpo_rewards.rows import text_rows

    beside = out.with_suffix(".json")
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(beside, about)
        return {}
    before = read_json(beside)
    changed = [name for name, value in about.items() if before.get(name) != value]
    if changed:
        raise UserError(
            f"{str(out)!r} is of another {', '.join(changed)}: remove it to measure again, or give "
            "another --out"
        )
    return {row.fields["question"]: dict(row.fields) for row in text_rows(out)}


def _show(console: "Console", told: Mapping[str, Any], out: Path) -> None:
    from xmlgrpo_run.screen.say import say

    say(
        console,
        f"{told['problems']:,} problems: {told['right']:.1%} of the replies are right, "
        f"{told['mixed']:.0%} of the problems have right and wrong ones",
    )
    say(console, f"train on those: sampling.rates={out} 'sampling.band=[0.05,0.9]'")


if __name__ == "__main__":
    main()
