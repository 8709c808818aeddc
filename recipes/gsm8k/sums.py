"""Sums as a solution writes them, for the scripts here and their tests."""

from xmlgrpo_run.measures.sums import Sum, calculate, is_true_chain, written_sums

__all__ = ["Sum", "calculate", "is_true_chain", "written_sums"]
