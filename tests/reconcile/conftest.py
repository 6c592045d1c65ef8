"""The session's servers."""

from oracle.stores import servers

__all__ = ["servers"]
