"""scope.step_through: every number that the page shows or computes is the engine's own."""

import json
import re

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import nn
from glassgrad.errors import ArgumentError, GraphError
from glassgrad.op import REGISTRY, apply
from glassgrad.scope import step_through, trace
from glassgrad.scope.trace import number

AT = {"w": 0.8, "x": 1.5, "b": -0.2, "target": 0.25}


def neuron(dtype=gg.float64, **changed):
    """loss and its variables; z and w are used twice, target is a constant."""
    made = {
        name: gg.tensor(value, dtype=dtype, requires_grad=name != "target") for name, value in (AT | changed).items()
    }
    w, x, b, target = made.values()
    with gg.autograd.detect_anomaly():
        z = w * x + b
        y = z.tanh() + z
        loss = (y - target).square() + w.square() * 0.1
    return loss, {**made, "z": z, "y": y, "loss": loss}


def text(view, selector):
    return view.page.locator(f".graph figure.wide {selector}").text_content()


def numbers(view):
    """What the page has, unrounded."""
    return view.page.evaluate(
        "STEPS.map(s => ({value: s.value, gradient: s.gradient, local: s.operands.map(o => o.local)}))"
    )


def test_keys_step_through_the_engines_own_numbers(open_page):
    loss, names = neuron()
    steps = trace(loss, names)
    view = open_page(step_through(loss, names))
    ops = [i for i, step in enumerate(steps) if step.op]
    last = len(steps) - 1
    for k, i in enumerate(ops, 1):
        assert text(view, f'[data-box="{i}"] .value') == ""
        view.page.keyboard.press("ArrowRight")
        assert text(view, f'[data-box="{i}"] .value') == number(steps[i].value)
        assert view.page.inner_text("#count") == f"Step {k} of {2 * len(ops) + 1}, forward"
        assert number(steps[i].value) in view.page.inner_text("#says")
    view.page.keyboard.press("ArrowRight")
    assert text(view, f'[data-box="{last}"] .grad') == "1"
    arrived = {steps[-1]: 1.0}
    for i in reversed(ops):
        view.page.keyboard.press("ArrowRight")
        for operand in steps[i].operands:
            if operand.sent is not None:
                arrived[operand.source] = arrived.get(operand.source, 0.0) + operand.sent
                shown = text(view, f'[data-box="{steps.index(operand.source)}"] .grad')
                assert shown.removesuffix(" …") == number(arrived[operand.source])
        says = view.page.inner_text("#says")
        assert says.startswith("Backward: ") and number(steps[i].gradient) in says
    exact = dict(zip("wxb", gg.autograd.grad(loss, [names[n] for n in "wxb"]), strict=True))
    for i, step in enumerate(steps):
        if step.name in exact:
            assert text(view, f'[data-box="{i}"] .grad') == number(exact[step.name].item())
    view.page.keyboard.press("ArrowRight")  # nothing comes after the last
    at_end = view.page.inner_text("#count")
    view.page.keyboard.press("ArrowLeft")
    assert view.page.inner_text("#count") != at_end
    view.page.keyboard.press("Home")
    assert view.page.inner_text("#count").startswith("Step 0 of")
    view.page.keyboard.press("End")
    assert view.page.inner_text("#count") == at_end


def test_the_sum_of_two_gradients_is_shown(open_page):
    loss, names = neuron()
    view = open_page(step_through(loss, names))
    view.page.keyboard.press("End")
    w = next(step for step in trace(loss, names) if step.name == "w")
    sums = [o.sent for step in reversed(trace(loss, names)) for o in step.operands if o.source and o.source.name == "w"]
    assert f"{number(sums[0])} + {number(sums[1])} = {number(w.gradient)}" in view.page.inner_text("#says")
    assert f"{number(sums[0])} + {number(sums[1])} = {number(w.gradient)}" in view.page.inner_text("#op")


@pytest.mark.parametrize(("dtype", "close"), [(gg.float64, 1e-12), (gg.float32, 2e-6)])
def test_a_changed_input_gives_the_engines_numbers(open_page, dtype, close):
    view = open_page(step_through(*neuron(dtype)))
    for changed in ({"w": -1.3}, {"w": -1.3, "target": 2.5}, {"w": -1.3, "target": 2.5, "x": 0.0}):
        name, value = list(changed.items())[-1]
        view.page.get_by_label(name, exact=True).fill(str(value))
        expected = trace(*neuron(dtype, **changed))
        for got, step in zip(numbers(view), expected, strict=True):
            assert got["value"] == pytest.approx(step.value, rel=close, abs=close)
            if step.gradient is not None:
                assert got["gradient"] == pytest.approx(step.gradient, rel=close, abs=close)
            assert [x for x in got["local"] if x is not None] == pytest.approx(
                [o.local for o in step.operands if o.local is not None], rel=close, abs=close
            )
    view.page.get_by_role("button", name="Reset").click()
    for got, step in zip(numbers(view), trace(*neuron(dtype)), strict=True):
        assert got["value"] == pytest.approx(step.value, rel=close)
    slider = view.page.get_by_label("w, slider")
    slider.focus()
    view.page.keyboard.press("ArrowRight")  # moves the slider, and not the step
    assert view.page.inner_text("#count").startswith("Step 0 of")
    assert float(view.page.get_by_label("w", exact=True).input_value()) > AT["w"]


def test_what_is_no_number_changes_nothing(open_page):
    view = open_page(step_through(*neuron()))
    before = numbers(view)
    view.page.get_by_label("w", exact=True).fill("")
    assert numbers(view) == before


def test_the_wrong_order_gives_a_wrong_gradient_and_says_why(open_page):
    loss, names = neuron()
    right = {step.name: step.gradient for step in trace(loss, names)}
    view = open_page(step_through(loss, names))
    view.page.get_by_role("button", name="Wrong order").click()
    view.page.keyboard.press("End")
    verdict = view.page.inner_text("#verdict")
    # z is used by tanh and by the sum; only the sum has sent when z sends, so tanh'(z) is missing.
    part = right["y"]
    wrong = {"b": part, "w": part * AT["x"] + 0.2 * AT["w"], "x": part * AT["w"]}
    for name, value in wrong.items():
        assert number(value) != number(right[name])
        assert f"{name} gets {number(value)}, right is {number(right[name])}" in verdict
    assert verdict.startswith("Wrong order: z sends before tanh(z) has sent to it.")
    says = []
    for _ in range(8):
        view.page.keyboard.press("ArrowLeft")
        says.append(view.page.inner_text("#verdict"))
    assert any(s.startswith("Too early: tanh(z) has not sent its part to z yet.") for s in says)
    view.page.get_by_role("button", name="Wrong order").click()
    assert view.page.inner_text("#verdict") == ""


def test_it_shows_where_things_are_written(open_page):
    view = open_page(step_through(*neuron()))
    for _ in range(3):
        view.page.keyboard.press("ArrowRight")
    op = view.page.inner_text("#op")
    assert "y = tanh x" in op and "derivative 1 - y^2" in op
    assert re.search(r"glassgrad/ops/elementwise.py:\d+", op) and 'tanh = _unary("tanh", np.tanh' in op
    assert re.search(r"test_step_through.py:\d+: y = z.tanh\(\) \+ z", op)


def test_a_screen_reader_hears_each_step(open_page):
    view = open_page(step_through(*neuron()))
    assert view.page.get_attribute("#says", "aria-live") == "polite"
    heard = set()
    for _ in range(18):
        heard.add(view.page.inner_text("#says"))
        view.page.keyboard.press("ArrowRight")
    assert len(heard) == 18 and all(s.endswith((".", "key, to run the graph forward.")) for s in heard)
    assert view.page.evaluate("document.querySelectorAll('button:not(:disabled), input').length") == view.page.evaluate(
        "[...document.querySelectorAll('button:not(:disabled), input')].filter(e => e.labels?.length || e.ariaLabel || "
        "e.textContent.trim()).length"
    )
    view.page.keyboard.press("Tab")
    assert view.page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_it_fits_the_window(open_page, size, dark):
    view = open_page(step_through(*neuron()), size, dark, motion=not dark)
    for _ in range(14):
        view.page.keyboard.press("ArrowRight")
    assert view.fits()
    assert view.page.locator("figure.wide").is_visible() is (size == "desktop")
    assert view.page.locator("figure.narrow").is_visible() is (size == "phone")
    moving = view.page.evaluate("getComputedStyle(document.querySelector('.arrow.flow path')).animationName")
    assert (moving == "run") is not dark
    now = view.page.locator(f"figure.{'wide' if size == 'desktop' else 'narrow'} .box.now")
    box, frame = now.bounding_box(), view.page.locator(".graph").bounding_box()
    assert frame["y"] <= box["y"] and box["y"] + box["height"] <= frame["y"] + frame["height"]
    view.shot(f"step_through-{size}-{'dark' if dark else 'light'}")


def test_arrays_have_sizes_norms_and_strips(open_page):
    x, target = gg.randn(16, 4), gg.tensor([0, 1, 2, 1] * 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    loss = nn.functional.cross_entropy(model(x), target)
    page = step_through(loss)
    steps = trace(loss)
    assert len(str(page)) < 300_000
    view = open_page(page)
    view.page.keyboard.press("End")
    for i, step in enumerate(steps):
        if isinstance(step.gradient, np.ndarray):
            assert text(view, f'[data-box="{i}"] .value') == "×".join(map(str, step.value.shape))
            assert text(view, f'[data-box="{i}"] .grad') == f"‖{number(float(np.linalg.norm(step.gradient)))}‖"
    assert "arrays" in view.page.inner_text("#inputs") and "stay as they were" in view.page.inner_text("#inputs")
    assert view.page.locator("#op svg.strip").count() >= 2
    assert view.page.get_by_role("button", name="Wrong order").is_disabled()
    view.shot("step_through-arrays")


def test_odd_graphs(open_page):
    w = gg.tensor(2.0, requires_grad=True)
    view = open_page(step_through(w, {"<w>": w}))  # no op at all
    view.page.keyboard.press("End")
    view = open_page(step_through(w * w, {}))  # no name, one op, used twice
    view.page.keyboard.press("End")
    assert "2 + 2 = 4" in view.page.inner_text("#says")
    view = open_page(step_through(((w + 1.0) + 2.0).tanh(), {}))  # a value that was not kept
    view.page.keyboard.press("End")
    assert "detect_anomaly" in view.page.inner_text("#inputs")
    view = open_page(step_through((w - 2.0).log()))  # not finite
    view.page.keyboard.press("End")
    assert "−inf" in view.page.inner_text(".graph") and "inf" in view.page.inner_text("#op")
    y = w
    for _ in range(60):
        y = y.tanh() * w
    view = open_page(step_through(y), "phone")
    assert view.fits()


def test_it_refuses_what_nobody_can_step_through():
    w = gg.tensor(1.0, requires_grad=True)
    y = w
    for _ in range(210):
        y = y * w
    with pytest.raises(ArgumentError, match=r"expected at most 200. scope.draw\(loss\)"):
        step_through(y)
    with pytest.raises(GraphError, match="requires grad"):
        step_through(gg.tensor(1.0))


def test_the_page_is_small():
    assert len(str(step_through(*neuron()))) < 100_000


def test_numbers_are_written_as_in_python(open_page, rng):
    view = open_page(step_through(*neuron()))
    some = [
        0.0,
        -0.0,
        1.0,
        -2.5,
        1.125,
        1.375,
        100.5,
        -101.5,
        999.5,
        1234.5,
        12345.0,
        99999.0,
        1e5,
        1e-3,
        9.995e-4,
        1e-10,
        1e100,
    ]
    some += (rng.standard_normal(300) * 10.0 ** rng.integers(-7, 8, 300)).tolist()
    assert view.page.evaluate("xs => xs.map(number)", some) == [number(x) for x in some]


# --------------------------------------------------------------------------------------------- the ops in JavaScript

OF_ONE_NUMBER = {
    "sum": lambda x: x.reshape(1).sum(), "mean": lambda x: x.reshape(1).mean(), "prod": lambda x: x.reshape(1).prod(0),
    "cumsum": lambda x: x.reshape(1).cumsum(0), "amax": lambda x: x.reshape(1).amax(0), "amin": lambda x: x.reshape(1).amin(0),
    "clone": lambda x: x.clone(), "cast": lambda x: x.to(gg.float32), "reshape": lambda x: x.reshape(1),
    "expand": lambda x: x.expand(1), "permute": lambda x: x.reshape(1, 1).permute(1, 0), "flip": lambda x: x.reshape(1).flip(0),
    "sum_to_size": lambda x: x.reshape(1, 1).sum_to_size(1), "logsumexp": lambda x: x.reshape(1).logsumexp(0),
}  # fmt: skip


def engine(name, arguments):
    tensors = [
        gg.tensor(bool(a)) if name == "where" and not i else gg.tensor(a, dtype=gg.float64, requires_grad=True)
        for i, a in enumerate(arguments)
    ]
    y = OF_ONE_NUMBER[name](*tensors) if name in OF_ONE_NUMBER else apply(REGISTRY[name], *tensors)
    assert y.grad_fn.name == name
    wanted = [t for t in tensors if t.requires_grad]
    slopes = gg.autograd.grad(y.sum().double(), wanted, allow_unused=True)
    return y.item(), [0.0 if slope is None else slope.item() for slope in slopes]


def test_ops_in_the_page_are_the_engines(open_page):
    view = open_page(step_through(*neuron()))
    names = view.page.evaluate("Object.keys(OPS)")
    pointwise = {op.name for op in REGISTRY.values() if op.differentiable and op.inputs in (("x",), ("a", "b"))}
    table = {
        name for name in pointwise if REGISTRY[name].reference.__class__ is np.ufunc or "elementwise" in _file(name)
    }
    assert table <= {*names, "triu", "tril"}, table - set(names)
    some = [-30.0, -2.6, -0.75, -1e-3, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.7, 19.0, 21.0]
    pairs = [(a, b) for a in some for b in (-2.0, -0.6, 0.0, 0.5, 1.0, 3.0)]
    checked = 0
    for name in names:
        arity = len(REGISTRY[name].inputs)
        points = [(x,) for x in some] if arity == 1 else pairs
        if arity == 3:
            points = [(mask, *pair) for mask in (0.0, 1.0) for pair in pairs]
        if name == "cast":
            points = [(0.5,), (-3.0,)]
        got = json.loads(
            view.page.evaluate(
                """([name, points]) => JSON.stringify(points.map(p => {
                    const y = OPS[name][0](...p);
                    return [y, OPS[name][1](...p, y)].map(v => [v].flat().map(x => isFinite(x) ? x : String(x)));
                }))""",
                [name, points],
            )
        )
        for point, ((y,), slopes) in zip(points, got, strict=True):
            with np.errstate(all="ignore"):
                value, exact = engine(name, point)
            for mine, theirs in zip((y, *slopes[len(slopes) - len(exact) :]), (value, *exact), strict=True):
                assert float(mine) == pytest.approx(theirs, rel=1e-12, abs=1e-12, nan_ok=True), (name, point)
                checked += 1
    assert checked > 1000


def _file(name):
    code = getattr(REGISTRY[name].reference, "__code__", None)
    return code.co_filename if code else ""
