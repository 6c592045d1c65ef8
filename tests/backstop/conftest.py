"""The session's servers; their runs are judged without Great Expectations."""

from oracle.stores import servers
from support.judges import sql_judges

__all__ = ["servers", "sql_judges"]
