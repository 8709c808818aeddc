"""`xmlgrpo-ask`: ask a trained model one question and watch it answer."""

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING

from xmlgrpo_rewards.errors import UserError, run_command
from xmlgrpo_rewards.threads import let_threads_sleep
from xmlgrpo_rewards.version import add_version

if TYPE_CHECKING:
    from xmlgrpo_trainer.ask.source import Source


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-ask",
        description="Ask a model one question, with the prompt that it was trained on.",
        epilog="example: xmlgrpo-ask --run tiny --question 'Tom has 3 apples and buys 4. How many "
        "has he?'",
    )
    add_version(made)
    which = made.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", help="a finished run: its name (under outputs/) or folder")
    which.add_argument("--model", help="a model's folder, an adapter's, a .gguf file or a Hub id")
    made.add_argument("--merged", action="store_true", help="with --run: the merged model")
    made.add_argument("--task", help="with --model: whose prompt is used (default: gsm8k)")
    question = made.add_mutually_exclusive_group()
    question.add_argument("--question", help="the question; else it is read from standard input")
    question.add_argument(
        "--question-env", metavar="NAME", help="the environment variable that holds the question"
    )
    made.add_argument("--max-new-tokens", type=int, metavar="N", help="default: as in training")
    made.add_argument(
        "--temperature", type=float, default=0.0, help="0, the default, always says the likeliest"
    )
    made.add_argument("--seed", type=int, default=0, help="for a temperature above 0")
    shown = made.add_mutually_exclusive_group()
    shown.add_argument("--raw", action="store_true", help="the reply as it is, tags included")
    shown.add_argument("--json", action="store_true", help="for machines")
    return made


def main() -> None:
    """Entry point of the console script."""
    let_threads_sleep()
    run_command(run)


def run() -> int:
    """Parse the command line, ask, print the reply."""
    arguments = parser().parse_args()
    from xmlgrpo_trainer.ask.source import DEFAULT_TASK, of_model, of_run

    if arguments.merged and not arguments.run:
        raise UserError("--merged goes with --run; a merged model's folder goes with --model")
    if arguments.task and not arguments.model:
        raise UserError("--task goes with --model; a run knows its task")
    question = read_question(arguments)
    if arguments.run:
        source = of_run(arguments.run, merged=arguments.merged)
    else:
        source = of_model(arguments.model, arguments.task or DEFAULT_TASK)
    return ask(question, source, arguments)


def read_question(arguments: argparse.Namespace) -> str:
    """The question, from wherever it was given.

    Raises:
        UserError: there is none, it is empty, or it is not text.
    """
    if arguments.question is not None:
        question, where = arguments.question, "--question"
    elif arguments.question_env is not None:
        where = f"the environment variable {arguments.question_env}"
        question = os.environ.get(arguments.question_env, "")
    else:
        where = "standard input"
        if sys.stdin.isatty():
            print("question (end with Ctrl-D):", file=sys.stderr)
        question = sys.stdin.read()
    try:
        question.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{where}: the question is not UTF-8 text") from None
    if not question.strip():
        raise UserError(
            f'{where}: the question is empty; make ask Q="..." or xmlgrpo-ask --question "..."'
        )
    return str(question).strip()


def ask(question: str, source: "Source", arguments: argparse.Namespace) -> int:
    """Load the model, ask, print; 0 also for a reply that is not in the format."""
    from rich.console import Console

    from xmlgrpo_rewards.reply import parse
    from xmlgrpo_rewards.task import get_task
    from xmlgrpo_trainer.screen import quiet_libraries

    task = get_task(source.task)
    quiet_libraries()
    from xmlgrpo_rollout.sampling import Sampling
    from xmlgrpo_rollout.say import say
    from xmlgrpo_trainer.ask.speaker import Settings, load_speaker
    from xmlgrpo_trainer.ask.view import ReplyView, remarks

    tokens = source.max_new_tokens if arguments.max_new_tokens is None else arguments.max_new_tokens
    sampling = Sampling(max_new_tokens=tokens, temperature=arguments.temperature)  # checks both
    settings = Settings(sampling.max_new_tokens, sampling.temperature, arguments.seed)
    speak = load_speaker(source)
    view = ReplyView(Console())

    def on_text(text: str) -> None:
        if arguments.raw:
            sys.stdout.write(text)
        elif not arguments.json:
            view.feed(text)
        sys.stdout.flush()

    started = time.monotonic()
    said = speak(task.messages(question), settings, on_text)
    seconds = time.monotonic() - started
    reply = parse(said.text)
    if arguments.json:
        answer = {
            "question": question,
            "reply": said.text,
            "reasoning": reply.reasoning,
            "answer": reply.answer,
            "strict_format": reply.strict,
            "soft_format": reply.soft,
            "finish": said.finish,
            "tokens": said.tokens,
            "prompt_tokens": said.prompt_tokens,
            "seconds": round(seconds, 3),
        }
        print(json.dumps(answer, ensure_ascii=False, indent=2))
        return 0
    if arguments.raw:
        print()
        return 0
    view.end()
    notes = Console(stderr=True)
    for remark in remarks(said, reply):
        say(notes, remark, head="[yellow]note[/] ")
    return 0


if __name__ == "__main__":
    main()
