"""What a run would have been paid under other rewards."""
