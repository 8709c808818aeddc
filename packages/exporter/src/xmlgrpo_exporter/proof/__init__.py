"""Proof that what is published is what was measured, and that it passed."""
