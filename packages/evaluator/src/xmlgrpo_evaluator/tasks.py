"""lm-eval's tasks: found and loaded, with our errors for the user's mistakes; which items they ask.

Items are a file, named by its digest, or a data set of the Hub, by its commit.  Without that a
result does not say what it is a result on, and two results under one name could be of different
items.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from xmlgrpo_evaluator.settings import OWN_FORM, REPEATED, Evaluation, EvaluationSettings
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_rewards.rows import files_in, files_of
from xmlgrpo_rewards.task import data_variable, extras, get_task, task_names
from xmlgrpo_run.digests import digest, file_sha256
from xmlgrpo_run.files import write_text
from xmlgrpo_run.rows import read_rows

GSM8K_IDS = ("gsm8k", "openai/gsm8k")
"""Names under which stock tasks ask the Hub for GSM8K."""


@dataclass(frozen=True, slots=True)
class Items:
    """The items of a task."""

    source: Literal["hub", "files"]
    name: str  # the data set's id, or the file's name
    revision: str | None = None  # the data set's commit, where the task names one
    sha256: str | None = None  # of the file

    def record(self, rows: int, left_out: str = "") -> dict[str, Any]:
        """For the result, with how many there are; `--limit` may have asked the first ones only.

        Args:
            left_out: in words, the items that are not among them for their gold.
        """
        return {**asdict(self), "rows": rows, **({"left_out": left_out} if left_out else {})}


@dataclass(frozen=True, slots=True)
class Tasks:
    """Tasks that exist, not loaded yet."""

    names: tuple[str, ...]  # as lm-eval knows them
    manager: TaskManager
    items: Mapping[str, Items]  # by task; nothing for a group of tasks
    repeats: int  # replies per item, for tasks in the form with several ...
    temperature: float  # ... which are drawn at this one
    graded: tuple[str, ...] = ()  # where replies are, for tasks that need something for it

    @property
    def data_digest(self) -> str | None:
        """One digest for all tasks' files; None when all ask the Hub."""
        digests = sorted({one.sha256 for one in self.items.values() if one.sha256})
        if len(digests) < 2:
            return digests[0] if digests else None
        return sha256("\n".join(digests).encode()).hexdigest()

    def load(self) -> list[Any]:
        """Load the items; gives the tasks as `simple_evaluate` wants them.

        Raises:
            UserError: they cannot be had.
        """
        try:
            loaded = self.manager.load(list(self.names))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"cannot load the task {', '.join(self.names)}: {error}") from error
        for name, task in loaded["tasks"].items():
            if name.endswith(REPEATED) and self.repeats > 1:
                task.set_config("repeats", self.repeats)
                drawn = {"temperature": self.temperature}
                task.set_config("generation_kwargs", drawn, update=True)
        found = {**loaded["tasks"], **loaded.get("groups", {})}
        return [found.get(name, name) for name in self.names]


def left_out(task: Any) -> str:
    """In words, the items that a loaded task of ours does not ask for their gold; else empty."""
    ours = "rewards_task" in (task.config.metadata or {})
    return str(task.dataset["test"].info.description or "") if ours else ""


@contextmanager
def find_tasks(evaluation: Evaluation) -> Iterator[Tasks]:
    """Find the tasks of an evaluation by their names; they can be loaded until the context ends.

    Raises:
        UserError: no task has that name, local data is named that is not there, or this machine
            lacks what a task grades with.
    """
    model, settings = evaluation.model, evaluation.settings
    names = tuple(form for name in settings.tasks for form in _forms(name, settings.k))
    metadata: dict[str, Any] = {
        "pretrained": model.tokenizer or model.source,
        "reply_limit": settings.max_new_tokens,
    }
    if settings.data:
        metadata["data"] = str(settings.data)
    with TemporaryDirectory(prefix="xmlgrpo-tasks-") as folder:
        made = Path(folder)
        paths = [task_folder(), *settings.include_path, made]

        def managed() -> TaskManager:
            """Knows all these tasks; lm-eval's own, thousands of files, are read only for them."""
            own = TaskManager(include_path=paths, include_defaults=False, metadata=metadata)
            if set(names) <= set(own.all_tasks):
                return own
            return TaskManager(include_path=paths, include_defaults=True, metadata=metadata)

        ours = TaskManager(include_path=paths, include_defaults=False)
        _define_installed(names, ours.all_tasks, made)
        manager = managed()
        _check_names(names, manager)
        configs = _configs(names, manager)
        if _redirect_gsm8k(configs, manager, settings, made):
            manager = managed()
        items = {name: items_of_task(config, settings.data) for name, config in configs.items()}
        metadata_of = [config.get("metadata") or {} for config in configs.values()]
        asked = {str(one["rewards_task"]) for one in metadata_of if "rewards_task" in one}
        graded = [extras(get_task(name)).ready() for name in sorted(asked)]
        ready = tuple(filter(None, graded))
        yield Tasks(names, manager, items, settings.k, settings.temperature, ready)


def task_folder() -> Path:
    """The folder with our task definitions: beside the package when installed, or the checkout's.

    Raises:
        UserError: it is in neither place.
    """
    package = Path(__file__).resolve().parent
    places = [package / "eval_tasks", *(p / "eval_tasks" for p in package.parents[2:4])]
    for place in places:
        if (place / "any_task").is_dir():
            return place
    raise UserError(
        "the folder eval_tasks is missing from this installation; run from a checkout, or name it "
        "with --include_path"
    )


def _forms(name: str, k: int) -> list[str]:
    """A task as it is asked: greedily, and with several sampled replies beside that one."""
    return [name, f"{name}{REPEATED}"] if k > 1 and not name.endswith(REPEATED) else [name]


def _define_installed(names: Sequence[str], defined: Sequence[str], made: Path) -> None:
    """Make a definition for every installed task of xmlgrpo_rewards that is named and has none."""
    for task in task_names():
        for form, template in ((OWN_FORM, "one_reply"), (OWN_FORM + REPEATED, "k_replies")):
            name = f"{task}{form}"
            if name not in names or name in defined:
                continue
            metadata = {"version": float(FORMAT_VERSION), "rewards_task": task, "reply_limit": 1024}
            definition = {
                "include": str(task_folder() / "any_task" / f"{template}.yaml"),
                "task": name,
                "metadata": metadata,
            }
            text = json.dumps(definition)  # which is YAML too
            write_text(made / f"{name}.yaml", text)


def _check_names(names: Sequence[str], manager: TaskManager) -> None:
    for name in names:
        if name in manager.all_tasks:
            continue
        near = get_close_matches(name, manager.all_tasks, n=3)
        listed = "list them: .venv/bin/lm_eval ls tasks"
        hint = f"did you mean {', '.join(near)}?" if near else listed
        if name.endswith(REPEATED):
            hint = f"{name.removesuffix(REPEATED)} has no form with several replies; leave --k out"
        raise UserError(f"lm-eval knows no task named {name!r}; {hint}")


def _configs(names: Sequence[str], manager: TaskManager) -> dict[str, Mapping[str, Any]]:
    """The YAML of every task, what it includes read in; nothing for a group."""
    found = {}
    for name in names:
        path = manager.task_index[name].yaml_path
        config = load_yaml(path, resolve_func=False, recursive=True) if path else {}
        if isinstance(config.get("task"), str):
            found[name] = config
    return found


def items_of_task(config: Mapping[str, Any], data: Path | None) -> Items:
    """What a task asks, as far as its YAML says; `data` is what the user named, if anything.

    Raises:
        UserError: there is nothing where the user, or the environment, says that items are.
    """
    files = _local_items(config, data)
    if files:
        content = file_sha256(files[0]) if len(files) == 1 else digest(files)
        return Items("files", files[0].name, sha256=content)
    metadata = config.get("metadata") or {}
    if "rewards_task" not in metadata:
        kwargs = config.get("dataset_kwargs") or {}
        return Items("hub", str(config.get("dataset_path")), revision=kwargs.get("revision"))
    if metadata.get("dataset"):
        return Items("hub", metadata["dataset"])
    task = get_task(metadata["rewards_task"])
    if not task.dataset:
        variable = metadata.get("data_variable") or data_variable(task.name)
        raise UserError(
            f"the task {task.name!r} has no data set on the Hub; name its rows: --data FILE, or "
            f"{variable}=FOLDER with a test.jsonl (make rows TASK={task.name} DATA=FOLDER)"
        )
    return Items("hub", task.dataset, revision=task.dataset_revision)


def _local_items(config: Mapping[str, Any], data: Path | None) -> list[Path]:
    """The files that a task reads; none when it asks the Hub."""
    if config.get("dataset_path") == "json":
        files = (config.get("dataset_kwargs") or {}).get("data_files")
        test = files.get(config.get("test_split")) if isinstance(files, Mapping) else files
        return [Path(test)] if isinstance(test, str) and Path(test).is_file() else []
    metadata = config.get("metadata") or {}
    task = metadata.get("rewards_task")
    if config.get("dataset_path") in GSM8K_IDS:
        task = "gsm8k"
    if task is None:
        return []
    variable = metadata.get("data_variable") or data_variable(task)
    named = os.environ.get(variable)
    place = data or (Path(named) if named else None)
    if place is None:
        return []
    asked = f"--data {data}" if data else f"{variable}={named}"
    return files_of(place, "test", asked, get_task(task).dataset_config)


def _redirect_gsm8k(
    configs: Mapping[str, Mapping[str, Any]],
    manager: TaskManager,
    settings: EvaluationSettings,
    made: Path,
) -> bool:
    """Let stock GSM8K tasks read the local items too, so that all tasks ask the same ones."""
    redirected = False
    for name, config in configs.items():
        if config.get("dataset_path") not in GSM8K_IDS:
            continue
        test = _local_items(config, settings.data)
        if not test:
            continue
        folder = test[0].parent
        train = files_in(folder, "train", str(folder))
        files = {"test": _as_json_lines(test, made / f"{name}-test.jsonl")}
        splits = "training_split: null\nfewshot_split: null\n"
        if train:
            files["train"], splits = _as_json_lines(train, made / f"{name}-train.jsonl"), ""
        elif _draws_shots(config, settings):
            raise UserError(
                f"{name} shows solved problems of the training split, and there is no "
                f"{folder / 'train.jsonl'}; put it there, or ask without shots: --num_fewshot 0"
            )
        write_text(
            made / f"{name}.yaml",
            f"include: {manager.task_index[name].yaml_path}\ntask: {name}\ndataset_path: json\n"
            f"dataset_name: null\n{splits}dataset_kwargs: {{data_files: {files}}}\n",
        )
        redirected = True
    return redirected


def _as_json_lines(files: Sequence[Path], made: Path) -> str:
    """The file that lm-eval's own tasks read; every row is looked at by our reader first."""
    rows = [row.fields for row in read_rows(*files)]
    if len(files) == 1 and files[0].suffix == ".jsonl":
        return str(files[0])
    write_text(made, "".join(json.dumps(row, default=str) + "\n" for row in rows))
    return str(made)


def _draws_shots(config: Mapping[str, Any], settings: EvaluationSettings) -> bool:
    """Whether a task shows solved problems, and not ones that are written in its YAML."""
    asked = settings.harness.get("num_fewshot")
    shots = config.get("num_fewshot") if asked is None else asked
    return bool(shots) and not (config.get("fewshot_config") or {}).get("samples")
