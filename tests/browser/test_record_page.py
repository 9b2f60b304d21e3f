"""The page of a recorded training: arrow keys move through the samples, numbers are the record's own."""

import pytest

import glassgrad as gg
from glassgrad import nn, optim, scope


@pytest.fixture(scope="module")
def recorded():
    gg.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x, y = gg.randn(64, 6), gg.randint(3, (64,))
    with scope.record(model, every=2, budget=None) as rec:
        for _ in range(21):
            optimizer.zero_grad()
            rec.loss(nn.functional.cross_entropy(model(x), y)).backward()
            optimizer.step()
    return rec


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_keys_step_through_the_samples(open_page, recorded, size):
    page = recorded.to_html()
    assert len(str(page)) < 300_000
    view = open_page(page, size=size)
    assert view.fits()
    assert view.page.inner_text("#step") == "step 0"
    for i in range(1, 4):
        view.page.keyboard.press("ArrowRight")
        assert view.page.inner_text("#step") == f"step {recorded.steps[i]}"
        assert f"loss {recorded.losses[i]:.3g}" in view.page.inner_text("#said")
    view.page.keyboard.press("End")
    assert view.page.inner_text("#step") == "step 20"
    view.page.keyboard.press("ArrowRight")
    assert view.page.inner_text("#step") == "step 20"
    assert view.page.locator("svg").count() == 10
    view.shot(f"record-{size}")


def test_a_layer_can_be_chosen(open_page, recorded):
    view = open_page(recorded.to_html(), dark=True)
    before = view.page.inner_html("#outputs")
    view.page.select_option("#layer", "0")
    assert view.page.inner_html("#outputs") != before
    view.shot("record-dark")
