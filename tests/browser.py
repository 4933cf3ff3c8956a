"""A real browser for the tests of pages: Debian's Chromium, driven by Playwright."""

import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser, url: str, **context):
    """A page that has come to life, with what it asked for and complained of.

    It is asked not to move more than it must, so that what is looked at is at rest.
    """
    usual = {"viewport": {"width": 1400, "height": 900}, "reduced_motion": "reduce"}
    session = browser.new_context(**{**usual, **context})
    page = session.new_page()
    page.troubles, page.asked = [], []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))

    def heard(message):
        if message.type in ("error", "warning"):
            page.troubles.append(message.text)

    page.on("console", heard)
    page.set_default_timeout(60_000)
    page.goto(url)
    page.wait_for_selector("html[data-ready]")
    try:
        yield page
    finally:
        session.close()


def outside(page) -> list[str]:
    """What a page asked for beyond itself; its own pictures and files are data: and blob:."""
    own = page.url.split("#")[0]
    return [url for url in page.asked if url != own and not url.startswith(("data:", "blob:"))]
