"""Generation of new rows."""
