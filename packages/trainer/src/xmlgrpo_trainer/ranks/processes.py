"""Several processes of one run (`accelerate launch`): who speaks, who writes, how all end.

The first rank writes the run folder and speaks; the others work in silence.  What one rank finds
out (the run folder is taken, a reward function fails) every rank must know, or it would wait for
the dead one; so each stage ends in an exchange, after which all go on or all end.  torchrun's rule
that the first non-zero exit ends every process holds for what cannot be exchanged, such as a GPU
that runs out of memory; that rank speaks for itself.

With one process every method is the plain call.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from xmlgrpo_rewards.console_script import EXIT_USER_ERROR
from xmlgrpo_rewards.errors import UserError

T = TypeVar("T")


class EndedElsewhere(Exception):  # noqa: N818  # the error is another rank's
    """Another rank says why the run ends; this one ends silently, with exit code 0.

    torchrun ends every process at the first non-zero exit, perhaps before the error is printed.
    """


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's place among those of the run, and on its machine (`local`); from 0."""

    index: int = 0
    local_index: int = 0
    count: int = 1
    local_count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.index == 0

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of the ranks, on every rank; waits for all."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def together(self, work: Callable[[], T]) -> T:
        """Do `work` on every rank; it exchanges nothing itself, or a failed rank would be missed.

        Raises:
            UserError: on the first rank, what went wrong on any.
            EndedElsewhere: on the others.
        """
        try:
            return self.alike(work)
        except UserError as error:
            raise self.everywhere(error) from None

    def alike(self, work: Callable[[], T], kind: type[UserError] = UserError) -> T:
        """Do `work` as `together` does, but for a rank that has to tidy up before it ends.

        Raises:
            UserError: of this `kind`, on every rank, what went wrong on any; the rank that has
                tidied up raises `everywhere` of it.
        """
        if self.count == 1:
            return work()
        result, error = _tried(work)
        # the words travel and not the error: one that takes more than its message does not pickle
        messages = self.gather(None if error is None else str(error))
        for message in messages:
            if message is not None:
                raise kind(message) from error
        return result  # type: ignore[return-value]  # without an error there is a result

    def on_first(self, work: Callable[[], T]) -> T:
        """Do `work` on the first rank alone, while the others wait; all get what it returned.

        Raises:
            UserError: on the first rank, what went wrong.
            EndedElsewhere: on the others.
        """
        if self.count == 1:
            return work()
        import torch.distributed as dist

        result, error = _tried(work) if self.is_first else (None, None)
        outcome: list[Any] = [result, None if error is None else str(error)]
        dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise self.everywhere(UserError(outcome[1])) from error
        return outcome[0]  # type: ignore[no-any-return]  # it went through a list of anything

    def everywhere(self, error: UserError) -> Exception:
        """What this rank raises for an error that every rank has."""
        return error if self.is_first else EndedElsewhere(str(error))


ALONE = Ranks()


def _tried(work: Callable[[], T]) -> tuple[T | None, UserError | None]:
    try:
        return work(), None
    except UserError as error:
        return None, error


def ranks_here() -> Ranks:
    """This process's place, from the environment that `accelerate launch` and torchrun set."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    return Ranks(
        *(int(os.environ.get(name, place)) for name, place in zip(names, "0011", strict=True))
    )


@contextmanager
def joined(device: str, timeout_s: float) -> Iterator[Ranks]:
    """Meet the other ranks, each on its own GPU; one waits `timeout_s` for another at most.

    Raises:
        UserError: more processes on this machine than GPUs.
    """
    ranks = ranks_here()
    if ranks.count == 1:
        yield ranks
        return
    if ranks.local_index == 0:
        check_gpus(ranks.local_count, device)
    import torch
    import torch.distributed as dist

    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        if ranks.local_index >= torch.cuda.device_count():
            raise EndedElsewhere  # the first process of this machine says it
        torch.cuda.set_device(ranks.local_index)
    else:
        # accelerate would name the CPU "cpu:0", where torch.load cannot put an optimiser's state
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")
    # gloo beside nccl: messages between ranks lie in the CPU's memory
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=timedelta(seconds=timeout_s)
    )
    try:
        yield ranks
    except (EndedElsewhere, UserError) as error:
        # A process that ends soon after it has joined aborts if gloo's threads still run.  NCCL may
        # wait for a rank that has gone, and only `EndedElsewhere` says that all ranks know.
        if not on_gpu or isinstance(error, EndedElsewhere):
            dist.destroy_process_group()
        raise
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise _left_alone(ranks) from error
    dist.destroy_process_group()  # after an error there may be no one left to take leave of


def _left_alone(ranks: Ranks) -> BaseException:
    """What a rank raises that waits for one which has gone; one of each machine speaks."""
    if ranks.local_index > 0:
        return SystemExit(EXIT_USER_ERROR)
    return UserError(
        f"process {ranks.index} of {ranks.count} has lost another one, which ended or cannot be "
        "reached; its own message, if there is one, is the reason. Run the same command again to "
        "continue"
    )


def see_one_gpu() -> None:
    """Show a process that is alone one GPU only; call before CUDA is touched.

    transformers would otherwise spread each batch over every GPU it sees (`DataParallel`).
    """
    if ranks_here().count == 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.partition(",")[0]


def gpu_count(text: str) -> int:
    """Read the command line's number of GPUs.

    Raises:
        UserError: it is none.
    """
    if not (text.isdecimal() and int(text)):
        raise UserError(f"--gpus: expected a whole number of at least 1, got {text!r}")
    return int(text)


def check_gpus(processes: int, device: str) -> None:
    """Check that this machine has a GPU for each of its processes, if the run uses GPUs at all.

    Raises:
        UserError: more processes than GPUs.
    """
    import torch

    gpus = torch.cuda.device_count()
    if device != "cpu" and 0 < gpus < processes:
        raise UserError(
            f"{processes} processes were asked for, but torch finds {gpus} GPU"
            f"{'s' if gpus > 1 else ''} on this machine, and each process needs its own: "
            f"GPUS={gpus}"
        )
