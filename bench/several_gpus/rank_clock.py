r"""`xmlgrpo-train` in this process, and where the seconds of its steps went.

    python -m bench.several_gpus.rank_clock parts 6 --config run.yaml --run folder
    accelerate launch --config_file configs/accelerate/multi_gpu.yaml --num_processes 4 \
        -m bench.several_gpus.rank_clock parts 6 --config run.yaml --run folder

Six steps run as they always do.  In those after them this process waits for its GPU, and for the
other processes, wherever a part begins or ends, so that the seconds are that part's: such a step
takes a little longer, and is not the one whose time is reported.  Every process writes a file into
`parts`: a list of steps, each with the seconds of

- `rollout`: drawing its completions, the adapter's merge included;
- `training`: forward and backward passes, clipping, the optimiser;
- `synchronisation`: exchanging with others, and waiting for the slowest of them;
- `host`: the rest, in which the GPU has nothing to do: decoding texts, rewards, logs.

All arguments but the first two are `xmlgrpo-train`'s.
"""

import argparse
import atexit
import functools
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.shared.cases import PARTS
from xmlgrpo_gguf.threads import let_threads_sleep
from xmlgrpo_trainer.cli import main as train

COLLECTIVES = (
    *("all_gather", "all_gather_into_tensor", "all_gather_object", "all_reduce"),
    *("barrier", "broadcast", "broadcast_object_list"),
)


class Clock:
    """Seconds of each part of the steps that are timed; a part inside another is not the outer's.

    Attributes:
        steps: seconds by part, of each whole step.
        is_on: whether the step is one of those that are timed.
    """

    def __init__(self, wait: Callable[[], None]) -> None:
        """A clock that calls `wait`, for the GPU, before it is read."""
        self.steps: list[dict[str, float]] = []
        self.is_on = False
        self._wait = wait
        self._inside = ["host"]
        self._seconds: dict[str, float] = defaultdict(float)
        self._read_at = 0.0

    def next_step(self, *, timed: bool) -> None:
        """End the step that is timed, if one is, and begin another."""
        if self.is_on:
            self._charge()
            self.steps.append({part: self._seconds[part] for part in PARTS})
        self.is_on = timed
        self._seconds.clear()
        self._charge()
        self._seconds.clear()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Charge what is done inside to this part, where the step is timed."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def enter(self, name: str) -> None:
        """From now on what is done belongs to this part."""
        if self.is_on:
            self._charge()
        self._inside.append(name)

    def leave(self) -> None:
        """What is done belongs to the part around the one that was entered last."""
        if self.is_on:
            self._charge()
        self._inside.pop()

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work`, charged to this part."""

        @functools.wraps(work)
        def charged(*arguments: Any, **named: Any) -> Any:
            with self.part(name):
                return work(*arguments, **named)

        return charged

    def _charge(self) -> None:
        self._wait()
        now = time.perf_counter()
        self._seconds[self._inside[-1]] += now - self._read_at
        self._read_at = now


def time_exchanges(clock: Clock) -> None:
    """Have what torch's processes exchange charged, the gradients of DDP included."""
    import torch  # noqa: PLC0415 - after `let_threads_sleep`
    import torch.distributed as dist  # noqa: PLC0415
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (  # noqa: PLC0415
        allreduce_hook,
    )
    from torch.nn.parallel import DistributedDataParallel  # noqa: PLC0415

    # torch compares these types with its own
    def reduce_gradients(
        group: Any,
        bucket: dist.GradBucket,  # type: ignore[name-defined]  # it is there, unseen by mypy
    ) -> torch.futures.Future[torch.Tensor]:
        with clock.part("synchronisation"):
            reduced = allreduce_hook(group, bucket)
            if clock.is_on:
                reduced.wait()
            return reduced

    def with_hook(self: Any, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        self.register_comm_hook(None, reduce_gradients)

    make = DistributedDataParallel.__init__
    setattr(DistributedDataParallel, "__init__", with_hook)  # noqa: B010 - mypy knows no other way
    for name in COLLECTIVES:
        setattr(dist, name, clock.timed("synchronisation", getattr(dist, name)))


def time_steps(clock: Clock, plain_steps: int) -> None:
    """Have rollouts and passes charged, by the names that trl and accelerate call."""
    from transformers import TrainerCallback  # noqa: PLC0415 - after `let_threads_sleep`

    fit: Any = import_module("xmlgrpo_trainer.fit")

    class Steps(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        """Tells the clock where a step begins, and the optimiser's part of it."""

        def on_step_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
            clock.next_step(timed=state.global_step >= plain_steps)

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            clock.enter("training")

        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            clock.leave()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            clock.is_on = False  # what comes after the last step is no step

    def build_trainer(**named: Any) -> Any:
        trainer = build(**named)
        trainer.add_callback(Steps)
        for owner, method in (
            (trainer, "compute_loss"),
            (trainer, "_get_per_token_logps_and_entropies"),
            (trainer.accelerator, "backward"),
            (trainer.accelerator, "clip_grad_norm_"),
        ):
            setattr(owner, method, clock.timed("training", getattr(owner, method)))
        return trainer

    def rollout_function(*arguments: Any) -> Any:
        return clock.timed("rollout", draw(*arguments))

    build, draw = fit.build_trainer, fit.rollout_function
    fit.build_trainer, fit.rollout_function = build_trainer, rollout_function


def main() -> None:
    """Time what `xmlgrpo-train` does with the rest of the command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("parts", type=Path, help="folder for the seconds, a file a process")
    made.add_argument("plain_steps", type=int, help="steps before the first that is timed")
    made.add_argument("words", nargs=argparse.REMAINDER, help="of xmlgrpo-train")
    asked = made.parse_args()
    sys.argv = ["xmlgrpo-train", *asked.words]

    let_threads_sleep()  # before torch is there
    clock = Clock(wait_for_gpu)
    time_exchanges(clock)
    time_steps(clock, asked.plain_steps)

    def write() -> None:
        asked.parts.mkdir(parents=True, exist_ok=True)
        rank = os.environ.get("RANK", "0")
        found = {"steps": clock.steps, "peak_gib": peak_gib()}
        (asked.parts / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")

    atexit.register(write)
    train()


def wait_for_gpu() -> None:
    """Until it has done what it was given, where there is one."""
    if sys.modules["torch"].cuda.is_initialized():
        sys.modules["torch"].cuda.synchronize()


def peak_gib() -> float | None:
    """The most memory that torch's allocator held on this process's GPU."""
    cuda = sys.modules["torch"].cuda
    return round(cuda.max_memory_allocated() / 2**30, 3) if cuda.is_initialized() else None


if __name__ == "__main__":
    main()
