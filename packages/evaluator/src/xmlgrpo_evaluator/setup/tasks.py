"""lm-eval's tasks, found and loaded, with our errors for the user's mistakes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lm_eval.tasks import TaskManager

from xmlgrpo_evaluator.setup.items import (
    GSM8K_IDS,
    GradedData,
    digest_of,
    graded_data,
    local_items,
    variable_of,
)
from xmlgrpo_evaluator.setup.models import Model
from xmlgrpo_evaluator.setup.settings import OWN_FORM, REPEATED, Settings
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import task_names


def task_folder() -> Path:
    """The folder with our task definitions: beside the package when installed, or the checkout's.

    Raises:
        UserError: it is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    places = [package / "eval_tasks", *(p / "eval_tasks" for p in package.parents[2:4])]
    for place in places:
        if (place / "gsm8k_xml").is_dir():
            return place
    raise UserError(
        "the folder eval_tasks is missing from this installation; run from a checkout, or name it "
        "with --include_path"
    )


@dataclass(frozen=True, slots=True)
class FoundTasks:
    """Tasks that exist, not loaded yet.

    Attributes:
        names: as lm-eval knows them.
        manager: lm-eval's.
        data: what each asks; nothing for a group of tasks.
        repeats: replies an item, for tasks in the form with several.
    """

    names: tuple[str, ...]
    manager: TaskManager
    data: Mapping[str, GradedData]
    repeats: int

    @property
    def data_digest(self) -> str | None:
        """Of all local items; None when they come from the Hub."""
        return digest_of(tuple(self.data.values()))

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
        found = {**loaded["tasks"], **loaded.get("groups", {})}
        return [found.get(name, name) for name in self.names]


@contextmanager
def find_tasks(model: Model, settings: Settings) -> Iterator[FoundTasks]:
    """Find the tasks by their names; they can be loaded until the context ends.

    Args:
        model: asked in them.
        settings: name them.

    Raises:
        UserError: no task has that name, or local data is named that is not there.
    """
    names = tuple(_form(name, settings.k) for name in settings.tasks)
    metadata: dict[str, Any] = {
        "pretrained": model.tokenizer or model.source,
        "reply_limit": settings.max_new_tokens,
    }
    if settings.data:
        metadata["data"] = str(settings.data)
    with TemporaryDirectory(prefix="xmlgrpo-tasks-") as scratch:
        paths = [task_folder(), *settings.include_path, Path(scratch)]

        def manager_of(*, everything: bool) -> TaskManager:
            return TaskManager(include_path=paths, include_defaults=everything, metadata=metadata)

        _define_installed(names, manager_of(everything=False), Path(scratch))
        # lm-eval's own tasks are thousands of files to read: only where one of them is asked for
        manager = manager_of(everything=False)
        if not set(names) <= set(manager.all_tasks):
            manager = manager_of(everything=True)
        _check_names(names, manager)
        configs = _configs(names, manager)
        if _redirect_gsm8k(configs, manager, settings, Path(scratch)):
            ours = manager_of(everything=False)
            is_enough = set(names) <= set(ours.all_tasks)
            manager = ours if is_enough else manager_of(everything=True)
        data = {name: graded_data(config, settings.data) for name, config in configs.items()}
        yield FoundTasks(names, manager, data, settings.k)


def _define_installed(names: Sequence[str], manager: TaskManager, scratch: Path) -> None:
    """Make a definition for every installed task of xmlgrpo_rewards that is named and has none."""
    for task in task_names():
        for form, template in ((OWN_FORM, "gsm8k_xml"), (OWN_FORM + REPEATED, "gsm8k_xml_k")):
            name = f"{task}{form}"
            if name not in names or name in manager.all_tasks:
                continue
            metadata = {"version": 1.0, "rewards_task": task, "data_variable": variable_of(task)}
            definition = {
                "include": str(task_folder() / "gsm8k_xml" / f"{template}.yaml"),
                "task": name,
                "metadata": metadata,
            }
            text = json.dumps(definition)  # which is YAML too
            (scratch / f"{name}.yaml").write_text(text, encoding="utf-8")


def _configs(names: Sequence[str], manager: TaskManager) -> dict[str, Mapping[str, Any]]:
    """The YAML of every task, what it includes read in; nothing for a group."""
    from lm_eval.tasks._yaml_loader import load_yaml

    found = {}
    for name in names:
        path = manager.task_index[name].yaml_path
        config = load_yaml(path, resolve_func=False, recursive=True) if path else {}
        if isinstance(config.get("task"), str):
            found[name] = config
    return found


def _form(name: str, k: int) -> str:
    return f"{name}{REPEATED}" if k > 1 and not name.endswith(REPEATED) else name


def _check_names(names: Sequence[str], manager: TaskManager) -> None:
    for name in names:
        if name in manager.all_tasks:
            continue
        near = get_close_matches(name, manager.all_tasks, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "list them with: lm_eval ls tasks"
        if name.endswith(REPEATED):
            hint = f"{name.removesuffix(REPEATED)} has no form with several replies; leave --k out"
        raise UserError(f"lm-eval knows no task named {name!r}; {hint}")


def _redirect_gsm8k(
    configs: Mapping[str, Mapping[str, Any]],
    manager: TaskManager,
    settings: Settings,
    scratch: Path,
) -> bool:
    """Let stock GSM8K tasks read the local items too, so that all tasks ask the same ones."""
    redirected = False
    for name, config in configs.items():
        if config.get("dataset_path") not in GSM8K_IDS:
            continue
        test = local_items(config, settings.data)
        if test is None:
            continue
        train = test.parent / "train.jsonl"
        files, splits = {"test": str(test)}, "training_split: null\nfewshot_split: null\n"
        if train.is_file():
            files, splits = {**files, "train": str(train)}, ""
        elif _draws_shots(config, settings):
            raise UserError(
                f"{name} shows solved problems of the training split, and there is no {train}; put "
                "it there, or ask without shots: --num_fewshot 0"
            )
        (scratch / f"{name}.yaml").write_text(
            f"include: {manager.task_index[name].yaml_path}\ntask: {name}\ndataset_path: json\n"
            f"dataset_name: null\n{splits}dataset_kwargs: {{data_files: {files}}}\n",
            encoding="utf-8",
        )
        redirected = True
    return redirected


def _draws_shots(config: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a task shows solved problems, and not ones that are written in its YAML."""
    asked = settings.harness.get("num_fewshot")
    shots = config.get("num_fewshot") if asked is None else asked
    return bool(shots) and not (config.get("fewshot_config") or {}).get("samples")
