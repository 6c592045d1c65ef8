"""Changing the configuration, and what a run may destroy without being asked."""
