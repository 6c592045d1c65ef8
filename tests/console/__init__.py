"""The console: what it shows, and to whom."""
