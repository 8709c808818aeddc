"""Is this machine ready, and is that run healthy?"""

from xmlgrpo_trainer.doctor.command import main

__all__ = ["main"]
