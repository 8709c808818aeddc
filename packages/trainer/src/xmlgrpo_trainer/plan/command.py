"""`xmlgrpo-plan`: tokens, steps, memory and time of a run, before any weight is loaded."""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

from xmlgrpo_rewards.errors import UserError, run_command
from xmlgrpo_rewards.version import add_version
from xmlgrpo_trainer.ranks.processes import gpu_count

EXIT_DOES_NOT_FIT = 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-plan",
        description="Estimate tokens, steps, memory and time of a training run. Loads no weights.",
        epilog="example: xmlgrpo-plan --config configs/gemma3-1b.yaml --gpu T4. "
        "Exit code 1: it does not fit.",
    )
    add_version(made)
    made.add_argument("--config", type=Path, required=True, help="a YAML file, see configs/")
    made.add_argument("--gpu", help="plan for this GPU, e.g. T4, L4, 4090, A100-80, H100")
    made.add_argument("--gpus", type=gpu_count, default=1, help="so many GPUs, one process each")
    made.add_argument("--json", action="store_true", help="for machines")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="override a key")
    return made


def main() -> None:
    """Entry point of the console script."""
    run_command(run)


def run() -> int:
    """Parse the command line, plan, print; 1 when the run does not fit."""
    arguments = parser().parse_args()
    from xmlgrpo_trainer.config.run_config import load_config
    from xmlgrpo_trainer.plan.gpus import find_gpu, found_gpu

    config = load_config(arguments.config, arguments.overrides)
    # a name that is not known is told before the libraries are imported
    named = find_gpu(arguments.gpu) if arguments.gpu else None
    from xmlgrpo_trainer.plan.make import make_plan
    from xmlgrpo_trainer.plan.view import as_json, print_plan
    from xmlgrpo_trainer.screen.console import make_console, quiet_libraries

    quiet_libraries()
    if named and config.model.device == "cpu":
        raise UserError(
            f"--gpu {arguments.gpu}: the configuration asks for the CPU; add model.device=auto"
        )
    gpu = None if config.model.device == "cpu" else named or found_gpu()
    if gpu is None and config.model.device == "cuda":
        raise UserError(
            "model.device is 'cuda', but torch finds no GPU here; name the one to plan for: "
            "--gpu T4 (with make: GPU=T4)"
        )
    has_liger = find_spec("liger_kernel") is not None
    plan = make_plan(config, gpu, arguments.gpus, has_liger=has_liger)
    if arguments.json:
        print(json.dumps(as_json(plan), indent=2))
    else:
        print_plan(plan, arguments.config, make_console())
    return 0 if plan.fits else EXIT_DOES_NOT_FIT


if __name__ == "__main__":
    main()
