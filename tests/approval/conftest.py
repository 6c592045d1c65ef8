"""The session's servers, for tests that make their own stores."""

from oracle.stores import servers

__all__ = ["servers"]
