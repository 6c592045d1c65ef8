"""What exists against what is configured."""
