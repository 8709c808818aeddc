"""How people see a run: watched live, as one page, and beside other runs."""
