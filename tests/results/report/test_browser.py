"""The report in a real browser: what loads, and whether it fits a phone and a screen, in light and in dark."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sync = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[browser]'")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync.sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except sync.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_in_a_browser(browser: Any, results: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url[:80]) if not request.url.startswith("data:") else None)
    page.goto((results / "report.html").as_uri())
    assert said == [(results / "report.html").as_uri()[:80]]
    pictures = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    assert pictures == [True] * 4
    for opened in (False, True):
        page.evaluate("opened => document.querySelectorAll('details').forEach(it => it.open = opened)", opened)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        tables = "[...document.querySelectorAll('table')].filter(it => !it.closest('.scroll'))"
        assert page.evaluate(f"{tables}.every(it => it.scrollWidth <= it.parentElement.clientWidth)")
    scrolls = page.evaluate("[...document.querySelectorAll('.scroll')].map(it => it.scrollWidth > it.clientWidth)")
    assert all(scrolls[:2]) if width < 500 else any(scrolls)  # the wide table, within its own box
    colours = [
        page.evaluate(f"getComputedStyle({element}).backgroundColor")
        for element in ("document.body", "document.querySelector('.picture')")
    ]
    brightness = [sum(map(int, colour[4:-1].split(","))) for colour in colours]
    assert brightness[1] == 3 * 255 and (brightness[0] > 600 if scheme == "light" else brightness[0] < 150)
    page.close()
