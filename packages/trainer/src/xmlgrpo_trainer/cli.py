"""`xmlgrpo-train`: train a run, continue it, or show the result of a finished one."""

import argparse

from xmlgrpo_gguf.threads import let_threads_sleep
from xmlgrpo_rewards.console_script import (
    add_version,
    kept_on_interrupt,
    path_argument,
    run_command,
    seed_argument,
)
from xmlgrpo_run.folder import run_folder
from xmlgrpo_run.stop_signals import end_with_parent
from xmlgrpo_trainer.ranks.processes import check_gpus, gpu_count, ranks_here, see_one_gpu


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-train",
        description="Train a model with GRPO. Run the same command again to continue.",
        epilog="example: xmlgrpo-train --config configs/tiny.yaml --run tiny grpo.max_steps=40",
    )
    add_version(made)
    made.add_argument(
        "--config", type=path_argument, required=True, help="a YAML file, see configs/"
    )
    made.add_argument(
        "--run", help="name (under outputs/) or folder of the run; default: the config's name"
    )
    made.add_argument("--seed", type=seed_argument, help="the same as the override seed=N")
    made.add_argument(
        "--gpus", type=gpu_count, default=1, help="so many GPUs of this machine, one process each"
    )
    made.add_argument(
        "overrides", nargs="*", metavar="key=value", help="override a key, e.g. data.limit=200"
    )
    return made


def main() -> None:
    """Entry point of the console script."""
    run_command(run)


@kept_on_interrupt("nothing was begun yet; run the same command again")
def run() -> int:
    """Parse the command line, train, and return the exit code."""
    arguments = parser().parse_intermixed_args()
    # heavy imports after parsing: --help answers at once, and a typo before the screen is imported
    from xmlgrpo_trainer.config.early_check import check_early
    from xmlgrpo_trainer.config.run_config import load_config

    overrides = list(arguments.overrides)
    if arguments.seed is not None:
        overrides.append(f"seed={arguments.seed}")
    config = load_config(arguments.config, overrides)
    if ranks_here().count == 1:  # several say it once, when they have met
        check_early(config, arguments.gpus)
    else:
        end_with_parent()
    root = run_folder(arguments.run or arguments.config.stem).root
    from xmlgrpo_run.screen.console import make_console, quiet_libraries

    let_threads_sleep()
    quiet_libraries()
    if arguments.gpus == 1:
        from xmlgrpo_trainer.train import train

        see_one_gpu()
        return train(config, root, make_console())
    from xmlgrpo_trainer.prepare import refuse_early
    from xmlgrpo_trainer.ranks.launch import launch

    refuse_early(config, arguments.gpus)
    check_gpus(arguments.gpus, config.model.device)
    words = ["--config", str(arguments.config), "--run", str(root), *overrides]
    return launch(arguments.gpus, words, make_console())


if __name__ == "__main__":
    main()
