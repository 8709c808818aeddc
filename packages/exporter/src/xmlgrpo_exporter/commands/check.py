"""`xmlgrpo-export check`: put GGUF files through the gates."""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.markup import escape

from xmlgrpo_exporter.check.check_json import EXIT_GATE_FAILED, show_check, write_check
from xmlgrpo_exporter.check.gates import check_file
from xmlgrpo_exporter.check.reference import answer_questions
from xmlgrpo_exporter.commands import arguments as shared
from xmlgrpo_exporter.convert.converter import require_runtime
from xmlgrpo_exporter.merge.merge import BUSY
from xmlgrpo_exporter.transformers_model import hash_model
from xmlgrpo_rewards.console_script import kept_on_interrupt, path_argument
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder, find_run
from xmlgrpo_run.lock import LOCK, one_writer
from xmlgrpo_run.manifest import read_manifest, require_compared
from xmlgrpo_run.screen.say import say


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "check",
        help="put GGUF files through the gates",
        description="Compare GGUF files with the model they were made from: token ids, BOS, "
        "template, stop ids, distance, greedy replies. The numbers go to check.json beside the "
        "files. Exit code 3: a gate failed.",
    )
    shared.add_source(parser)
    parser.add_argument(
        "--gguf", type=path_argument, nargs="+", help="files (default: all of RUN/gguf)"
    )
    parser.add_argument(
        "--out", type=path_argument, help="where check.json goes (default: beside the file)"
    )
    shared.add_comparison(parser)
    shared.add_limits(parser)
    parser.set_defaults(command=command)


@kept_on_interrupt("check.json is as it was; the same command checks from the start")
def command(arguments: argparse.Namespace) -> int:
    """Check the files of the arguments."""
    console = shared.console()
    run = find_run(arguments.run) if arguments.run else None
    files = _find_files(run, arguments.gguf)
    if run:
        made_by = f"--run (its merged model; make merge RUN={run.called} makes it)"
        folder = shared.require_folder(run.merged, made_by)
    else:
        folder = shared.require_folder(arguments.model, "--model")
    manifest = read_manifest(run) if run else None
    comparison = shared.read_comparison(arguments, console, run, manifest)
    require_runtime()
    model = hash_model(folder, console)
    if run:
        require_compared(model.folder, model.fingerprint)
    records = {file: arguments.out or file.parent for file in files}
    with ExitStack() as locked:
        for out in sorted(set(records.values())):
            locked.enter_context(one_writer(out / LOCK, BUSY.format(out)))
        reference = answer_questions(model, comparison)
        checks = {}
        for file in files:
            say(console, f"[bold]{escape(file.name)}[/]")
            checks[file] = check_file(file, reference)
            show_check(checks[file], console)
        for out in sorted(set(records.values())):
            here = [checks[file] for file in files if records[file] == out]
            say(console, escape(f"wrote {write_check(out, reference.as_json(), here)}"))
    return 0 if all(check.passed for check in checks.values()) else EXIT_GATE_FAILED


def _find_files(run: RunFolder | None, given: list[Path] | None) -> list[Path]:
    """The files to check; there is one, and each is a file."""
    files = given or (sorted(run.gguf.glob("*.gguf")) if run else [])
    if not files:
        how = f"make them: make gguf RUN={run.called}" if run else "name some with --gguf"
        raise UserError(f"no GGUF file to check; {how}")
    for file in files:
        if not file.is_file():
            kind = "a folder" if file.is_dir() else "nothing"
            raise UserError(f"expected a GGUF file, got {kind} at {file}; name it with --gguf")
    return files
