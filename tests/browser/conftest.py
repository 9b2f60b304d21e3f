"""A real browser for the HTML views: headless Chromium, offline.

Fixtures:
    chromium    the browser, started once. Without Playwright or Chromium its tests are skipped, and the reason names what
                is missing; with ``GLASSGRAD_REQUIRE_BROWSER=1`` that is an error. ``GLASSGRAD_CHROMIUM`` may name the program.
    open_page   ``view = open_page(page, size="desktop", dark=False, motion=True)`` saves a ``scope.Page`` (or takes the path of
                an HTML file) and opens it from file:// in a window of its own, 1280 x 800, or 390 x 844 for "phone". At the
                end of the test every opened view must have had no console error, no uncaught exception and no request but
                for the file itself.

``view.page`` is Playwright's page; ``view.errors`` and ``view.requests`` list what went wrong or out so far; ``view.fits()`` says
whether nothing is wider than the window; ``view.shot(name)`` writes ``NAME.png``, of the whole page, to the folder
``GLASSGRAD_SCREENSHOTS`` (the test's own temporary one if that is not set) and returns the path.

    def test_my_view(open_page):
        view = open_page(my_view(), size="phone", dark=True)
        view.page.keyboard.press("ArrowRight")
        assert view.page.inner_text("#step") == "1"
"""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
]  # containers: no user namespaces, a small /dev/shm


@dataclass
class View:
    """One page in one window, and what it did that it should not."""

    page: Any
    folder: Path
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def fits(self) -> bool:
        return self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    def shot(self, name: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.png"
        self.page.screenshot(path=str(path), full_page=True)
        return path


def missing(what: str):
    if os.environ.get("GLASSGRAD_REQUIRE_BROWSER"):
        pytest.fail(f"GLASSGRAD_REQUIRE_BROWSER is set and {what}", pytrace=False)
    pytest.skip(f"{what}: HTML views are not tested")


@pytest.fixture(scope="session")
def chromium():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright is missing (pip install playwright)")
    names = (os.environ.get("GLASSGRAD_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if name and (found := shutil.which(name))), None)
    if program is None:
        missing("Chromium is missing (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, tmp_path):
    views, contexts = [], []
    folder = Path(os.environ.get("GLASSGRAD_SCREENSHOTS") or tmp_path)

    def open_(page, size="desktop", dark=False, motion=True) -> View:
        path = Path(page) if isinstance(page, (str, Path)) else page.save(tmp_path / f"page{len(views)}.html")
        address = path.resolve().as_uri()
        context = chromium.new_context(
            viewport=dict(zip(("width", "height"), SIZES[size], strict=True)),
            color_scheme="dark" if dark else "light",
            reduced_motion="no-preference" if motion else "reduce",
            offline=True,
        )
        contexts.append(context)
        view = View(context.new_page(), folder)
        view.page.on("console", lambda m: view.errors.append(m.text) if m.type in ("error", "warning") else None)
        view.page.on("pageerror", lambda error: view.errors.append(str(error)))
        view.page.on("requestfailed", lambda request: view.errors.append(f"failed: {request.url}"))
        view.page.on(
            "request", lambda r: view.requests.append(r.url) if r.url != address and r.url[:5] != "data:" else None
        )
        views.append(view)
        view.page.goto(address)
        return view

    yield open_
    try:
        for view in views:
            assert not view.errors, view.errors
            assert not view.requests, view.requests
    finally:
        for context in contexts:
            context.close()
