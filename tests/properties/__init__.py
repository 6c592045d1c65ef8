"""Promises of DESIGN.md on generated worlds."""
