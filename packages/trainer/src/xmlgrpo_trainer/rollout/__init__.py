"""Rollouts: completions of prompts by the model that is being trained.

`static` is our own lean loop, `generate` transformers'; both answer the same call, `Engine`.
"""

from xmlgrpo_trainer.rollout.choice import EngineChoice, choose_engine
from xmlgrpo_trainer.rollout.engine import Engine
from xmlgrpo_trainer.rollout.sampling import Sampling

__all__ = ["Engine", "EngineChoice", "Sampling", "choose_engine"]
