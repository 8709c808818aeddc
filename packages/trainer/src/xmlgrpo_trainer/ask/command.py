"""`xmlgrpo-ask`: ask a trained model questions and watch it answer."""

import argparse

from xmlgrpo_gguf.threads import let_threads_sleep
from xmlgrpo_rewards.console_script import (
    add_version,
    kept_on_interrupt,
    path_argument,
    run_command,
    seed_argument,
)
from xmlgrpo_rewards.errors import UserError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-ask",
        description="Ask a model questions, with the prompt that it was trained on. At a terminal "
        "and without a question: one after the other, as they are typed. Through a pipe: all of "
        "it is one question.",
        epilog="example: xmlgrpo-ask --run tiny --question 'Tom has 3 apples and buys 4. How many "
        "has he?'",
    )
    add_version(made)
    which = made.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", help="a finished run: its name (under outputs/) or folder")
    which.add_argument("--model", help="a model's folder, an adapter's, a .gguf file or a Hub id")
    made.add_argument("--merged", action="store_true", help="with --run: the merged model")
    made.add_argument(
        "--base", metavar="MODEL", help="of an adapter: its base model, where that has moved"
    )
    made.add_argument("--task", help="with --model: whose prompt is used (default: its run's)")
    question = made.add_mutually_exclusive_group()
    question.add_argument(
        "--question", action="append", metavar="TEXT", help="the question; several may be given"
    )
    question.add_argument(
        "--questions", type=path_argument, metavar="FILE", help="a file of questions, one a line"
    )
    question.add_argument(
        "--question-env", metavar="NAME", help="the environment variable that holds the question"
    )
    made.add_argument("--max-new-tokens", type=int, metavar="N", help="default: as in training")
    made.add_argument("--temperature", type=float, default=0.0, help="0, the default, is greedy")
    made.add_argument("--seed", type=seed_argument, default=0, help="for a temperature above 0")
    shown = made.add_mutually_exclusive_group()
    shown.add_argument("--raw", action="store_true", help="the reply as it is, tags included")
    shown.add_argument("--json", action="store_true", help="for machines; of several, one a line")
    return made


def main() -> None:
    """Entry point of the console script."""
    let_threads_sleep()
    run_command(run)


@kept_on_interrupt("there is nothing to keep; ask again")
def run() -> int:
    """Parse the command line, ask, print the replies."""
    arguments = parser().parse_args()
    from xmlgrpo_trainer.ask.questions import given_questions, typed_questions
    from xmlgrpo_trainer.ask.source import of_model, of_run

    if arguments.merged and not arguments.run:
        raise UserError("--merged goes with --run; a merged model's folder goes with --model")
    if arguments.merged and arguments.base:
        raise UserError("--base goes with an adapter; a merged model needs none")
    if arguments.task and not arguments.model:
        raise UserError("--task goes with --model; a run knows its task")
    questions = given_questions(arguments)
    if arguments.run is not None:
        source = of_run(arguments.run, merged=arguments.merged, base=arguments.base)
    else:
        source = of_model(arguments.model, arguments.task, arguments.base)
    from xmlgrpo_trainer.ask.answer import answer_given, answer_typed, load

    asked = load(
        source,
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        seed=arguments.seed,
        form="json" if arguments.json else "raw" if arguments.raw else "text",
    )
    if questions is None:
        return answer_typed(typed_questions(), asked)
    return answer_given(questions, asked)


if __name__ == "__main__":
    main()
