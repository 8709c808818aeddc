"""Killable worker processes, which tasks share."""
