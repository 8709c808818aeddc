"""The private names of trl's that the step stands on: looked up once, when it is imported.

trl has no hooks where these stand, and may rename them in any release; 1.14, 1.15 and 1.16 have
them all.  What replaces a method (`packed_step`, `late_numbers`, `mismatch`, `draws`, `fast_step`)
does so for one trainer, never for the class.
"""

import inspect
from typing import Any

from trl import GRPOTrainer
from trl.trainer import grpo_trainer

from xmlgrpo_rewards.errors import UserError

METHODS = (
    "_compute_loss",
    "_generate_and_score_completions",
    "_get_per_token_logps_and_entropies",
    "_prepare_inputs",
    "_save_checkpoint",
)
ATTRIBUTES = ("_entropy_bonus_enabled", "_last_loaded_step", "_metrics")  # set when it is made
FUNCTIONS = ("nanmax", "nanmin", "shuffle_sequence_dict")  # of the trainer's module


def check_trl(trainer: Any, module: Any, version: str) -> None:
    """See that trl has what the step stands on.

    Raises:
        UserError: a name is gone.
    """
    is_set = trainer.__init__.__code__.co_names
    missing = [
        *(name for name in METHODS if not hasattr(trainer, name)),
        *(name for name in ATTRIBUTES if name not in is_set),
        *(name for name in FUNCTIONS if not hasattr(module, name)),
    ]
    if missing:
        raise UserError(
            f"trl {version} has no {', '.join(missing)} any more, which this trainer stands on: "
            "expected trl 1.14 to 1.16; install the locked versions with make setup"
        )


if inspect.getmodule(GRPOTrainer) is grpo_trainer:  # Unsloth puts a class of its own there
    from trl import __version__

    check_trl(GRPOTrainer, grpo_trainer, __version__)
