"""What becomes of a record, by name."""
