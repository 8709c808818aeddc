"""Kill a stage, fill its disk, fail it: does the same command end as if nothing had happened?

    python -m bench.commands.faults train --kills 30 --share 0.35 --to kills.json
    python -m bench.commands.faults eval merge gguf ladder report push --kills 6 --stops 4 --full 4

The stages run on configs/tiny.yaml as a user runs them, one command each, in a folder of their own;
tests/shared/strikes.py strikes them.  Then the same command runs undisturbed, and every file is
compared with those of a run that nothing happened to.  A chain of kills (SIGKILL) or stops
(SIGTERM) strikes the continued command again, until one gets to its end.  `push` goes to a hub of
its own on 127.0.0.1.
"""

import argparse
import json
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "shared"))

from hub_server import serve  # noqa: E402
from strikes import SIGNALS, Ended, Fault, Strike, contents, differences, run  # noqa: E402

RUN = ("--run", "outputs/tiny")
TRAIN = ("xmlgrpo-train", "--config", str(ROOT / "configs/tiny.yaml"), *RUN)
PUSH = ("xmlgrpo-export", "push", *RUN, "--repo", "alice/tiny")
FEW = ("--limit", "24")
BRIEF = ("grpo.max_steps=2", "holdout.report_rows=8", "holdout.validation_rows=8")
STAGES = {  # in their order, which is also what each of them needs
    "warm-start": (*TRAIN, *BRIEF, "model.tiny.warm_steps=220", "model.tiny.warm_batch=4"),
    "base": (*TRAIN, *BRIEF),
    "train": TRAIN,
    "eval": ("xmlgrpo-eval", "run", *RUN, *FEW, "--quiet"),
    "merge": ("xmlgrpo-export", "merge", *RUN),
    "gguf": ("xmlgrpo-export", "gguf", *RUN, "--quants", "q8_0", "--prompts", "4"),
    "ladder": ("xmlgrpo-eval", "ladder", *RUN, *FEW),
    "report": ("xmlgrpo-report", *RUN),
    "dry-push": (*PUSH, "--dry-run"),
    "push": PUSH,
}
HUB_PORT = 18_765  # always the same: the card names the place that it was pushed to
TOKEN = "hf_" + "TriedInEveryFault0000000000000000"


@dataclass(frozen=True)
class Place:
    """Where the stages run, and what stood there after each."""

    root: Path
    fork: bool

    @property
    def work(self) -> Path:
        """The working folder of the commands."""
        return self.root / "work"

    def before(self, stage: str) -> Path | None:
        """What stood there after the stage before; None before the first."""
        names = list(STAGES)
        place = names.index(stage)
        return self.root / "after" / names[place - 1] if place else None


@dataclass(frozen=True)
class Sound:
    """A stage that nothing happened to."""

    name: str
    files: dict[str, str]
    events: Sequence[str]
    seconds: float


@contextmanager
def fresh(place: Place, stage: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The folder as it was before a stage; yields a new hub, and what `run` is to be told."""
    shutil.rmtree(place.work, ignore_errors=True)
    if before := place.before(stage):
        shutil.copytree(before, place.work, symlinks=True)  # with the times of the files
    else:
        place.work.mkdir(parents=True)
    how: dict[str, Any] = {"scratch": place.root / "scratch"}
    pushes = STAGES[stage][:2] == PUSH[:2]
    with serve({TOKEN: ("alice", "write")}, HUB_PORT if pushes else 0) as hub:
        if pushes:  # huggingface_hub reads these when it is imported
            environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
            environment["HF_HOME"] = str(place.root / "hf")
            yield hub, {**how, "environment": environment}
        else:
            yield hub, {**how, "fork": place.fork}


def left(place: Place, stage: str, hub: Any) -> dict[str, str]:
    """What a stage has left, on the hub too."""
    if stage in {"warm-start", "base"}:  # of the run that it was built for nothing is asked
        shutil.rmtree(place.work / "outputs" / "tiny", ignore_errors=True)
    found = contents(place.work)
    for name, repo in hub.repos.items():
        commits = {**repo.branches, **{f"tag {tag}": at for tag, at in repo.tags.items()}}
        for at, commit in commits.items():
            tree = repo.commits[commit].items()
            found |= {
                f"hub {name} {at.split()[0]} {path}": blob.lfs or blob.oid for path, blob in tree
            }
    return found


def whole(place: Place, stage: str) -> Sound:
    """The stage with nothing in its way; read back where it was run before."""
    after, record = place.root / "after" / stage, place.root / "after" / f"{stage}.json"
    if record.exists():
        return Sound(**json.loads(record.read_text(encoding="utf-8")))
    with fresh(place, stage) as (hub, given):
        ended = run(STAGES[stage], place.work, **given)
        if ended.code:
            raise SystemExit(f"{stage} alone ends with {ended.code}: {ended.errors[-2000:]}")
        sound = Sound(stage, left(place, stage, hub), ended.events, ended.seconds)
    shutil.rmtree(after, ignore_errors=True)
    shutil.copytree(place.work, after, symlinks=True)
    record.write_text(json.dumps(asdict(sound)), encoding="utf-8")
    return sound


def chains(
    place: Place, sound: Sound, fault: Literal["kill", "stop"], most: int, share: float
) -> Iterator[dict[str, Any]]:
    """Strike, go on, strike again until the end; then from the start again, up to so many."""
    rng, done = random.Random(0), 0  # noqa: S311 - no secret depends on it
    number = SIGNALS[fault]
    while done < most:
        moments: list[str] = []
        orphans: list[str] = []
        said: list[str] = []
        with fresh(place, sound.name) as (hub, given):
            while True:
                strike, after_s = Strike(), None
                if done < most and done % 2 == 0 and sound.events:
                    strike = Strike(fault, rng.randint(1, max(1, round(len(sound.events) * share))))
                elif done < most:
                    strike, after_s = Strike(fault), rng.uniform(0, sound.seconds * share)
                ended = run(STAGES[sound.name], place.work, strike, after_s=after_s, **given)
                orphans += ended.orphans
                if ended.code not in {-number, 128 + number}:
                    done += done < most  # a moment that this process did not reach
                    break
                done += 1
                moments.append(f"{after_s:.1f} s" if after_s else ended.events[strike.moment - 1])
                if ended.code > 0:
                    said.append(ended.errors.strip().splitlines()[-1])
                print(f"{sound.name}: {fault} {done} at {moments[-1]}", flush=True)
            yield verdict(place, sound, hub, ended) | {
                "fault": fault,
                "at": moments,
                "said": said,
                "orphans": orphans,
            }


def struck(place: Place, sound: Sound, fault: Fault, moment: int) -> dict[str, Any]:
    """One fault, and the same command again."""
    with fresh(place, sound.name) as (hub, given):
        first = run(STAGES[sound.name], place.work, Strike(fault, moment), **given)
        again = run(STAGES[sound.name], place.work, **given)
        lines = [line for line in first.errors.splitlines() if line.startswith("error: ")]
        is_said = first.code == 0 or (first.code == 2 and "Traceback" not in first.errors)
        return verdict(place, sound, hub, again) | {
            "fault": fault,
            "at": first.events[moment - 1] if len(first.events) >= moment else "",
            "said": lines[-1] if lines else first.errors[-600:] if first.code else "",
            "is_said": is_said,
            "orphans": first.orphans,
        }


def verdict(place: Place, sound: Sound, hub: Any, ended: Ended) -> dict[str, Any]:
    """How the undisturbed command ended, and what differs from a run that nothing happened to."""
    found = {"stage": sound.name, "code": ended.code}
    found["differ"] = differences(sound.files, left(place, sound.name, hub))
    return found | ({"errors": ended.errors[-1500:]} if ended.code else {})


def moments(sound: Sound, count: int) -> list[int]:
    """So many of a stage's events, spread evenly."""
    events = len(sound.events)
    return sorted({1 + round(place * (events - 1) / max(count - 1, 1)) for place in range(count)})


def main() -> None:
    """Run the stages that are asked for, after those before them."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("stages", nargs="+", choices=STAGES)
    made.add_argument("--kills", type=int, default=0, help="of each stage")
    made.add_argument("--stops", type=int, default=0, help="of each stage, by SIGTERM")
    made.add_argument("--share", type=float, default=1.0, help="of a stage, in which they come")
    made.add_argument("--full", type=int, default=0, help="moments at which the disk is full")
    made.add_argument("--broken", type=int, default=0, help="moments at which an operation fails")
    made.add_argument("--place", type=Path, default=Path("outputs/faults"), help="to work in")
    made.add_argument("--fork", action="store_true", help="import the libraries once, for all runs")
    made.add_argument("--to", type=Path, help="the JSON file of the results")
    asked = made.parse_args()
    found: list[dict[str, Any]] = []
    for result in trials(asked, Place(asked.place.resolve(), asked.fork)):
        found.append(result)
        is_good = not result["code"] and not result["differ"] and result.get("is_said", True)
        print("good" if is_good else "BAD", json.dumps(result), flush=True)
        if asked.to:
            asked.to.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def trials(asked: argparse.Namespace, place: Place) -> Iterator[dict[str, Any]]:
    """Every trial that is asked for."""
    for name in needed(asked.stages):
        sound = whole(place, name)
        print(f"{name}: {len(sound.events)} file events, {sound.seconds:.0f} s", flush=True)
        if name not in asked.stages:
            continue
        yield from chains(place, sound, "kill", asked.kills, asked.share)
        yield from chains(place, sound, "stop", asked.stops, asked.share)
        faults: tuple[tuple[Fault, int], ...] = (("full", asked.full), ("broken", asked.broken))
        for fault, count in faults if sound.events else ():
            for moment in moments(sound, count):
                yield struck(place, sound, fault, moment)


def needed(stages: Sequence[str]) -> list[str]:
    """The stages and all that come before the last of them, in order."""
    names = list(STAGES)
    return names[: max(map(names.index, stages)) + 1]


if __name__ == "__main__":
    main()
