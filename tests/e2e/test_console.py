"""The page "Retention" in Airflow: behind its login, and in a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import sync_playwright

from e2e.conftest import ROOT, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(1200)]

SCREENSHOT = ROOT / "docs" / "images" / "console.png"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
]
WAIT_MS = 90_000


def status_of(url: str, **headers: str) -> int:
    try:
        with urlopen(Request(url, headers=headers), timeout=60) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code


@pytest.mark.parametrize("path", ["", "api/overview", "report/1"])
def test_without_a_login_every_page_answers_401(stack: Stack, path: str) -> None:
    assert status_of(f"{stack.demo.url()}/retention/{path}") == 401


@pytest.mark.parametrize("path", ["docs", "openapi.json", "redoc"])
def test_the_description_of_the_interface_is_not_served(stack: Stack, path: str) -> None:
    """FastAPI would serve it without asking for the login."""
    assert status_of(f"{stack.demo.url()}/retention/{path}") in (401, 404)


def test_a_forged_token_is_refused(stack: Stack) -> None:
    assert status_of(f"{stack.demo.url()}/retention/", Authorization="Bearer forged") in (401, 403)


@pytest.fixture(scope="module")
def page(stack: Stack) -> Iterator[Any]:
    """A browser that has logged in."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed; `make test` installs it, or says how"
    user, password = stack.demo.login()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS, headless=True)
        opened = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
        opened.set_default_timeout(WAIT_MS)
        opened.goto(f"{stack.demo.url()}/")
        opened.fill("input[name=username]", user)
        opened.fill("input[name=password]", password)
        opened.click("button:has-text('Sign in')")
        opened.wait_for_url(f"{stack.demo.url()}/", wait_until="load")
        yield opened
        browser.close()


def test_the_page_is_in_the_navigation_and_shows_every_tier(stack: Stack, page: Any, tmp_path: Path) -> None:
    page.goto(f"{stack.demo.url()}/plugin/retention")
    page.get_by_text("Retention").first.wait_for()
    frame = page.frame_locator("iframe")
    frame.get_by_text("consumer").first.wait_for()
    shown = frame.locator("body").inner_text()
    for word in ("consumer", "beta", "evaluation", "business", "messages", "feedback"):
        assert word in shown.lower(), word
    taken = tmp_path / "console.png"
    page.screenshot(path=taken)
    assert taken.stat().st_size > 20_000
    # The picture in the documentation is renewed on demand only, so that a test run leaves the checkout as it was.
    if os.environ.get("UPDATE_SCREENSHOTS") or not SCREENSHOT.exists():
        SCREENSHOT.parent.mkdir(exist_ok=True)
        shutil.copyfile(taken, SCREENSHOT)


def test_the_page_loads_nothing_from_elsewhere(stack: Stack, page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{stack.demo.url()}/plugin/retention")
    page.frame_locator("iframe").get_by_text("consumer").first.wait_for()
    ours = str(stack.demo.url())
    framed = [url for url in asked if "/retention/" in url]
    assert framed
    assert all(url.startswith(ours) for url in framed)
