"""The session's servers, for tests that make their own stores; their runs are judged without Great Expectations."""

from oracle.stores import servers
from support.judges import sql_judges

__all__ = ["servers", "sql_judges"]
