"""Stages that are done once: each a Python process, some on one GPU and some on another."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.shared.child_process import end_with_this_process, run_child

MARGIN_S = 8  # for this process's own last words
GRACE_S = 25  # for a run to finish its step and save
THREADS = "8"  # of each process: a dozen of them share the cores


@dataclass(frozen=True, slots=True)
class Stage:
    """One process.

    Attributes:
        name: of the result.
        words: the script and its arguments.
        makes: there once the stage is finished, and not before.
        needs: without these it is not begun.
        least_s: with less time left it is not begun.
        leaves_s: seconds that it leaves to the stages after it.
        saves: told to stop, it saves, and the next call goes on from there.
    """

    name: str
    words: tuple[str, ...]
    makes: Path
    needs: tuple[Path, ...] = ()
    least_s: float = 20
    leaves_s: float = 0
    saves: bool = False


@dataclass(frozen=True, slots=True)
class Lane:
    """Stages that run one after the other on one GPU; other lanes may share it."""

    gpu: int
    stages: Sequence[Stage]

    @property
    def is_done(self) -> bool:
        """Whether all of them are finished."""
        return all(stage.makes.exists() for stage in self.stages)


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs stages until a moment on the clock.

    Attributes:
        folder: where they run; their logs' ends go to `note`.
        deadline: of `time.monotonic()`.
        note: takes a stage's name and what became of it.
    """

    folder: Path
    deadline: float
    note: Callable[[str, dict[str, Any]], None]

    def run(self, lanes: Sequence[Lane]) -> bool:
        """Run all lanes side by side; whether all of their stages are finished."""
        end_with_this_process()
        with ThreadPoolExecutor(len(lanes)) as pool:
            list(pool.map(self._lane, lanes, [lanes] * len(lanes)))
        return all(lane.is_done for lane in lanes)

    def _lane(self, lane: Lane, lanes: Sequence[Lane]) -> None:
        for stage in lane.stages:
            if not stage.makes.exists():
                at_first = _abreast(lane, lanes)
                ended = self._stage(lane.gpu, stage, at_first)
                # the fewest: a stage that had the GPU for itself at its end did not share all of it
                ended["abreast"] = min(at_first, _abreast(lane, lanes))
                print(f"[gpu {lane.gpu}] {stage.name}: {ended['ending']}", flush=True)
                self.note(stage.name, ended)

    def _stage(self, gpu: int, stage: Stage, abreast: int) -> dict[str, Any]:
        missing = [path.name for path in stage.needs if not path.exists()]
        left_s = self.deadline - MARGIN_S - stage.leaves_s - time.monotonic()
        if missing:
            return {"ending": f"not begun: {', '.join(missing)} is not there", "seconds": 0}
        if left_s < stage.least_s:
            ending = f"not begun: {left_s:.0f} s left, {stage.least_s:.0f} s needed"
            return {"ending": ending, "seconds": 0}
        print(f"[gpu {gpu}] {stage.name} ...", flush=True)
        began = time.monotonic()
        try:
            ended = run_child(
                stage.words,
                cwd=self.folder,
                environment={"CUDA_VISIBLE_DEVICES": str(gpu), "OMP_NUM_THREADS": THREADS},
                limit_s=left_s,
                grace_s=min(GRACE_S, left_s / 2) if stage.saves else 0,
            )
        except SystemExit:  # this process is being ended: what the stage took counts all the same
            spent, done = round(time.monotonic() - began, 1), stage.makes.exists()
            stopped = {"ending": "stopped", "seconds": spent, "finished": done, "gpu": gpu}
            self.note(stage.name, stopped | {"abreast": abreast})
            raise
        done = stage.makes.exists()
        print(f"[gpu {gpu}] {stage.name} took {ended['seconds']} s", flush=True)
        if not done:
            print("\n".join(ended["last_lines"][-15:]), flush=True)
        return {**ended, "finished": done, "gpu": gpu}


def _abreast(lane: Lane, lanes: Sequence[Lane]) -> int:
    """How many lanes have work left on this one's GPU, itself included."""
    others = (other for other in lanes if other is not lane and other.gpu == lane.gpu)
    return 1 + sum(not other.is_done for other in others)
