"""The model that a script measures: a folder that is given, or random weights made on the spot."""

from pathlib import Path

from child import run_child

from xmlgrpo_rewards.errors import UserError

HERE = Path(__file__).resolve().parent


def make_model(size: str, gsm8k: Path, folder: Path, limit_s: float) -> Path:
    """Make the random model, in a process of its own: this one leaves the GPU alone.

    Raises:
        UserError: it could not be made.
    """
    model = folder / f"gemma-3-{size}-random"
    script = [str(HERE / "random_model.py"), "--size", size, "--gsm8k", str(gsm8k.resolve())]
    ended = run_child([*script, "--out", str(model)], cwd=folder, environment={}, limit_s=limit_s)
    if ended["exit_code"] != 0:
        raise UserError("no random model: " + " ".join(ended["last_lines"][-3:]))
    print(f"{ended['last_lines'][-1]}  {ended['seconds']:.0f} s", flush=True)
    return model


def given_or_made(given: Path | None, size: str, gsm8k: Path, folder: Path, limit_s: float) -> Path:
    """The model folder that the command line names, or a random model.

    Raises:
        UserError: there is no model in the folder, or none could be made.
    """
    if given is None:
        return make_model(size, gsm8k, folder, limit_s)
    if not (given / "config.json").is_file():
        raise UserError(f"--model: expected a model folder, found no config.json in {given}")
    return given.resolve()
