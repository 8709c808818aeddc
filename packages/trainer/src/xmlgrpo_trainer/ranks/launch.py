"""`--gpus N`: this command once for each GPU, started by accelerate's own launcher.

The same as `accelerate launch --multi_gpu --num_processes N -m xmlgrpo_trainer.cli ...`, but that
the run ends with its own exit code and without the launcher's traceback after our one sentence.
On a CPU the processes are the same, with gloo between them.
"""

import logging
import signal
from collections.abc import Sequence

from rich.console import Console

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.screen.progress import Stage

STOP_S = 1800  # after a signal, so long may the ranks take to finish their step and save


def launch(processes: int, words: Sequence[str], console: Console) -> int:
    """Run `xmlgrpo-train` with `words` in `processes` processes; wait for their end.

    Returns:
        The exit code of the run: the first process's, or that of one which ended by itself.

    Raises:
        UserError: the system killed a process.
    """
    with Stage(console, "starting the processes"):
        from accelerate.commands.launch import launch_command, launch_command_parser
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.CRITICAL)  # torchrun's: each of its loggers has a level of its own
    options = [
        *("--num_processes", str(processes), "--num_machines", "1", "--dynamo_backend", "no"),
        *("--mixed_precision", "no"),  # the run's own configuration decides
        *("--main_process_port", "0"),  # any free one: two runs may share a machine
        *("--multi_gpu", "--module", "xmlgrpo_trainer.cli"),
    ]
    arguments = launch_command_parser().parse_args([*options, *words])
    arguments.shutdown_timeout = STOP_S  # torchrun's own option, which accelerate hands on
    try:
        launch_command(arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return int(failure.exitcode)
        raise UserError(
            f"process {rank} of {processes} was killed by {signal.Signals(-failure.exitcode).name}"
            ", and the others were stopped. SIGKILL without your doing is most often the system "
            "running out of memory (dmesg says so). Run the same command again to continue"
        ) from None
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0
