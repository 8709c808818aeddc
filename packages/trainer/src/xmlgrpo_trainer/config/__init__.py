"""The configuration of a run, checked before anything is loaded."""
