"""Load the policy."""
