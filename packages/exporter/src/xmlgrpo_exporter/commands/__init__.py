"""The subcommands of `xmlgrpo-export`, one module each."""
