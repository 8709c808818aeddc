"""Ask a trained model one question."""

from xmlgrpo_trainer.ask.command import main

__all__ = ["main"]
