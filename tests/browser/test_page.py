"""Pages open from disk, offline, without a complaint; what one must not do is noticed."""

import pytest

from glassgrad.scope import Page


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_page_opens(open_page, size, dark):
    view = open_page(
        Page("Small", "<h1>Small</h1><p id=n></p>", data=[1, 2], script="n.textContent = DATA.length"), size, dark
    )
    assert view.page.inner_text("#n") == "2"
    assert view.fits()
    ground = view.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(int(c) for c in ground[4:-1].split(",")) < 80) is dark


def test_a_page_that_fetches_or_fails_is_noticed(open_page):
    view = open_page(
        Page("Bad", "<img src='https://example.org/a.png'><p style='width:3000px'>wide</p>", script="nothing()")
    )
    assert any("nothing is not defined" in error for error in view.errors)
    assert any("example.org" in error for error in view.errors + view.requests)
    assert not view.fits()
    view.errors.clear()
    view.requests.clear()


def test_the_demos_report_opens(open_page, tmp_path):
    for package in ("matplotlib", "tqdm", "sklearn"):
        pytest.importorskip(package)
    from glassgrad.demo import main

    assert main(["--fast", "--out", str(tmp_path / "demo")]) == 0
    for size in ("desktop", "phone"):
        view = open_page(tmp_path / "demo" / "report.html", size)
        assert view.page.locator("svg").count() == 14
        assert view.fits()
