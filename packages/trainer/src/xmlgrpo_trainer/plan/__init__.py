"""What a run would do and need, before any weight is loaded."""

from xmlgrpo_trainer.plan.command import main

__all__ = ["main"]
