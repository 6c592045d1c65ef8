"""Adds "Retention" to Airflow's navigation: the console of lifecycle.console, behind Airflow's own login.

Every Airflow process imports this file; only the API server ever builds the application, with the first request for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

PREFIX = "/retention"
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Console:
    """The guarded application, built when it is first asked for."""

    def __init__(self) -> None:
        self._app: Callable[[Scope, Receive, Send], Awaitable[None]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            self._app = guarded_app()
        await self._app(scope, receive, send)


def guarded_app() -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Logged in, and allowed to see plugins: without the first every answer is 401, without the second 403."""
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import get_user, requires_access_view
    from fastapi import Depends

    from lifecycle.console.app import create_app

    return create_app([Depends(get_user), Depends(requires_access_view(AccessView.PLUGINS))])


def href() -> str:
    """Where the browser finds the page, also when Airflow is served under a path of its own."""
    return f"{urlsplit(conf.get('api', 'base_url', fallback='')).path.rstrip('/')}{PREFIX}/"


class RetentionConsole(AirflowPlugin):
    """Registered by Airflow's plugin manager."""

    name = "retention_console"
    # Airflow declares these as attributes of instances and reads them from the class.
    fastapi_apps = [{"app": Console(), "url_prefix": PREFIX, "name": "Retention"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {"name": "Retention", "href": href(), "destination": "nav", "url_route": "retention"}
    ]
