"""What an evaluation leaves: results, comparisons, the ladder, the report."""
