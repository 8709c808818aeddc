"""Tasks beyond word problems, found by their entry points in the group `xmlgrpo.tasks`."""
