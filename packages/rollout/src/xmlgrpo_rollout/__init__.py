"""Rollouts: completions of prompts by the model that is being trained, or by any other.

`choice.choose_engine` finds the engine for a model; every engine answers the call of
`engine.Engine`.  Importing this package costs nothing: its modules are imported by name, since
Unsloth wants to be imported before transformers.
"""
