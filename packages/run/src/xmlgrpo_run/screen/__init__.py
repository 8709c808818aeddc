"""Sentences, bars and curves, the same for every command."""
