"""The adapter into its 16-bit base."""
