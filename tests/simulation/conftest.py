"""Stores by the dozen."""

from oracle.stores import servers

__all__ = ["servers"]
