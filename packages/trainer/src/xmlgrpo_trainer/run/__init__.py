"""The run folder while it is written: opened, recorded, continued, stopped."""
