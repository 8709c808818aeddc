"""The `graph` engine in its CPU form, and one stream of tokens for `ask`."""
