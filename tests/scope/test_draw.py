"""Reading a graph (trace), placing it (layout), folding it by module (fold), and drawing it."""

import re
import time
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import nn
from glassgrad.errors import ArgumentError, GraphError
from glassgrad.op import REGISTRY, apply
from glassgrad.scope import draw, step_through, trace
from glassgrad.scope.draw import Drawing, numbers
from glassgrad.scope.layout import layout


def scalar(value, grad=True):
    return gg.tensor(value, dtype=gg.float64, requires_grad=grad)


# --------------------------------------------------------------------------------------------------------------- trace


def test_trace_follows_the_chain_rule():
    w, x = scalar(0.5), scalar(-2.0)
    y = (w * x + w).tanh() * 3.0
    steps = trace(y)
    assert w.grad is None and steps[-1].gradient == 1
    y.backward()  # the graph is still there
    by_name = {step.name: step for step in steps if step.name}
    assert by_name["w"].gradient == w.grad.item()
    assert by_name["x"].gradient == x.grad.item()
    assert steps[-1].value == y.item()
    for step in steps[:-1]:
        onward = sum(s.gradient * local for s in steps for source, local in s.inputs if source is step)
        assert step.gradient == pytest.approx(onward)
        assert step.gradient == pytest.approx(sum(o.sent for s in steps for o in s.operands if o.source is step))
    assert [step.symbol for step in steps if step.op][-1] == "× 3"


def test_trace_runs_no_hook():
    w = scalar(2.0)
    y = w * w
    y.register_hook(lambda dy: pytest.fail("a hook ran"))
    assert trace(y * 3.0)[0].gradient == 12


def test_values_that_backward_does_not_keep_are_found():
    a, b, c = scalar(2.0), scalar(3.0), scalar(0.1, grad=False)
    y = ((a + 1.0) * b - c).square()  # add and sub save nothing
    values = {step.title: step.value for step in trace(y, {})}
    assert values["+ 1"] == 3 and values["− 0.1"] == 3.0 * 3 - 0.1
    unnamed = trace(((a + 1.0) + 2.0).tanh(), {})  # which constants these were can't be told from anything kept
    assert [step.value for step in unnamed[1:3]] == [None, None] and unnamed[0].gradient == unnamed[1].gradient
    with gg.autograd.detect_anomaly():
        y = ((a + 1.0) + c).tanh()
    kept = trace(y)
    assert [step.title for step in kept] == ["a", "+ 1", "c", "+", "y"]
    assert [step.value for step in kept[:4]] == [2, 3, 0.1, 3.1]
    assert kept[2].gradient is None  # a constant
    assert re.fullmatch(r"test_draw.py:\d+: y = \(\(a \+ 1.0\) \+ c\).tanh\(\)", kept[-1].line)


def test_trace_of_arrays_sends_what_the_engine_sends():
    x, target = gg.randn(6, 4), gg.tensor([0, 1, 2, 0, 1, 2])
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))
    loss = nn.functional.cross_entropy(model(x), target)
    steps = {step.name: step for step in trace(loss) if step.name}
    loss.backward()
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(steps[f"model.{name}"].gradient, parameter.grad.data)
    np.testing.assert_array_equal(steps["x"].value, x.data)


def test_trace_of_several_outputs_and_of_functions():
    x = gg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    a, b, _ = x.unbind(0)
    y = a * b + a
    steps = trace(y)
    np.testing.assert_array_equal(steps[0].gradient, [3, 1, 0])
    assert [step.gradient for step in steps if step.op == "unbind"] == [3, 1]

    class Cube(gg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, dy):
            return dy * 3 * ctx.saved_tensors[0] ** 2

    w = scalar(2.0)
    y = Cube.apply(w) * w
    assert [(step.title, step.value, step.gradient) for step in trace(y)] == [
        ("w", 2, 32), ("Cube", 8, 2), ("y", 16, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("name", sorted(op.name for op in REGISTRY.values() if op.differentiable))
def test_trace_of_every_op(name, rng):
    op = REGISTRY[name]
    sample = next(s for s in op.samples(rng) if s.differentiable and all(np.size(i) for i in s.inputs if i is not None))
    inputs = [None if i is None else gg.tensor(np.asarray(i)) for i in sample.inputs]
    leaves = [t.requires_grad_() for t in inputs if t is not None and t.is_floating_point()]
    y = apply(op, *inputs, **sample.static)
    y = next(part for part in y if part.requires_grad) if op.multi else y
    loss = (y.double() * gg.arange(y.numel()).reshape(y.shape)).sum()
    steps = {id(step.node): step for step in trace(loss, {})}
    for leaf, expected in zip(
        leaves, gg.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True), strict=True
    ):
        if expected is not None:
            np.testing.assert_array_equal(
                steps[id(leaf)].gradient, expected.data.reshape(()) if leaf.numel() == 1 else expected.data
            )
    assert steps[id(loss.grad_fn)].value == loss.item()
    if not op.multi and steps[id(y.grad_fn)].value is not None:
        np.testing.assert_array_equal(np.reshape(steps[id(y.grad_fn)].value, y.shape), y.data)
    assert str(step_through(loss)).startswith("<!doctype html>")
    assert len(draw(loss).boxes) == len(trace(loss))


def test_names_come_from_variables_containers_and_modules():
    layer, p = nn.Linear(2, 1), [scalar(1.0), scalar(2.0)]
    x = gg.ones(1, 2)
    loss = layer(x).sum().double() * p[0] + p[1]
    assert {"layer.weight", "layer.bias", "p[0]", "p[1]", "x", "loss"} <= {step.name for step in trace(loss)}
    assert [step.name for step in trace(loss, {"first": p[0]})].count("first") == 1


def test_trace_refuses_what_it_cannot_follow():
    x = scalar(1.0)
    with pytest.raises(GraphError, match="without a graph; expected a tensor of one number that requires grad"):
        trace(gg.tensor(1.0))
    with pytest.raises(GraphError, match=r"shape \(2,\)"):
        trace(gg.ones(2, requires_grad=True) * 2)
    y = x * x
    y.backward()
    with pytest.raises(GraphError, match="retain_graph"):
        trace(y)
    assert "3 boxes" not in repr(draw(y)) and len(draw(y).boxes) == 2  # its shape is still there


# -------------------------------------------------------------------------------------------------------------- layout


@pytest.mark.parametrize("seed", range(5))
def test_boxes_stand_apart_and_edges_lead_forward(seed):
    rng = np.random.default_rng(seed)
    sources = [sorted({int(j) for j in rng.integers(0, i, min(i, 2))}) if i > 4 else [] for i in range(60)]
    made = layout(sources)
    points = [*made.places, *[place for chain in made.bends.values() for place in chain]]
    rows = {}
    for layer, across in points:
        rows.setdefault(layer, []).append(across)
    for row in rows.values():
        row.sort()
        assert all(b - a > 0.998 for a, b in zip(row, row[1:], strict=False))
    for i, into in enumerate(sources):
        for k, j in enumerate(into):
            layers = [made.places[j][0], *[at for at, _ in made.bends.get((i, k), ())], made.places[i][0]]
            assert layers == list(range(layers[0], layers[-1] + 1))


# ---------------------------------------------------------------------------------------------------------------- draw


def test_a_value_used_twice_by_one_op_has_two_arrows():
    w = scalar(3.0)
    svg = draw(w * w).svg()
    paths = re.findall(r'data-arrow="1.[01]"><path d="([^"]+)"', svg)
    assert len(set(paths)) == 2 and svg.count(">×3<") == 2


@pytest.mark.parametrize("down", [False, True])
def test_drawings_have_every_number(down):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    w, x = scalar(0.5), scalar(-2.0)
    steps = trace((w * x).tanh(), {"w<": w, "x": x})
    drawing = Drawing(numbers(steps))
    svg = drawing.svg(down=down, label='a "small" one')
    ElementTree.fromstring(svg)
    texts = {t.get_text() for t in drawing.plot(down=down).texts}
    for step in steps:
        for value in (step.value, step.gradient):
            text = f"{value:.3g}".replace("-", "−")
            assert f">{text}<" in svg and text in texts
    assert "w&lt;" in svg


def test_a_drawing_is_saved(tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    w = scalar(0.5)
    drawing = draw(w.exp() * w)
    svg = drawing.save(tmp_path / "new" / "graph.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert drawing.save(tmp_path / "graph.png").read_bytes()[:4] == b"\x89PNG"


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(n), nn.Linear(n, n), nn.Linear(n, n)

    def forward(self, x):
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class Tower(nn.Module):
    def __init__(self, blocks, n=4):
        super().__init__()
        self.blocks = nn.ModuleList([Block(n) for _ in range(blocks)])
        self.head = nn.Linear(n, 1)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def titles(drawing):
    return [box.title + box.note for box in drawing.boxes]


def test_modules_fold_and_equal_blocks_are_drawn_once():
    tower = Tower(12)
    x = gg.randn(3, 4, requires_grad=True)
    loss = tower(x).mean()
    drawing = draw(loss)  # the model is found among the variables
    inside = [f"blocks.0–11{part}×12" for part in (".norm", ".up", "", ".down", "")]
    assert titles(drawing) == ["x", *inside, "head", "loss"]
    ops = [{word: text for word, text, _ in box.rows} for box in drawing.boxes]
    assert ops[3]["op"] == "gelu" and ops[5]["op"] == "add"
    assert drawing.boxes[5].sources == [0, 4]  # the residual
    assert drawing.boxes[6].sources == [5]


def test_activations_of_a_sequential_have_their_own_boxes():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    loss = model(gg.randn(3, 4)).square().sum()
    assert titles(draw(loss, {"loss": loss}, model=model)) == ["0", "1", "2", "3", "4", "( )²", "loss"]


def test_blocks_of_blocks_fold_twice():
    model = nn.Sequential(*[nn.Sequential(Block(4), Block(4), Block(4)) for _ in range(2)])
    loss = model(gg.randn(3, 4)).mean()
    assert titles(draw(loss, {"loss": loss}, model=model))[:2] == ["0–1.0–2.norm×6", "0–1.0–2.up×6"]


def test_blocks_of_other_widths_stay_apart():
    widths = (4, 8, 8, 8)
    layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in zip(widths, widths[1:], strict=False)]
    model = nn.Sequential(*layers)
    loss = model(gg.randn(3, 4)).mean()
    found = titles(draw(loss, {"loss": loss}, model=model))
    assert found == ["0.0", "0.1", "1–2.0×2", "1–2.1×2", "loss"]


def test_what_can_not_be_drawn(rng):
    w = scalar(1.0)
    with pytest.raises(ArgumentError, match="without a parameter in this graph"):
        draw(w * w, model=nn.Linear(2, 2))
    with pytest.raises(ArgumentError, match="expected an nn.Module"):
        draw(w * w, model="net")
    made = [w]
    for a in rng.integers(1, 60, 6100).tolist():
        made.append(made[-1] * made[max(-a, -len(made))])
    with pytest.raises(ArgumentError, match="boxes; expected at most 6000"):
        draw(made[-1], {})


def test_different_blocks_stay_apart():
    model = nn.Sequential(*[nn.Linear(4, 4) if i % 2 else nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for i in range(4)])
    loss = model(gg.randn(3, 4)).sum()
    assert "×" not in "".join(titles(draw(loss, {}, model=model)))


@pytest.mark.parametrize("kind", ["blocks", "loop", "tangle"])
def test_five_thousand_nodes(kind, rng):
    w = scalar(1.0)
    tower = Tower(900)
    if kind == "blocks":
        loss = tower(gg.randn(2, 4)).mean()
    elif kind == "loop":
        loss = w
        for _ in range(2500):
            loss = loss * 0.999 + w
    else:
        made = [w]
        for a, b in rng.integers(1, 20, (5000, 2)).tolist():
            made.append(made[-1] * made[max(-a - b, -len(made))])
        loss, made = made[-1], None
    start = time.perf_counter()
    drawing = draw(loss)
    ElementTree.fromstring(drawing._repr_svg_())
    assert time.perf_counter() - start < 5  # 0.3 s; a loop over pairs of boxes would take minutes
    if kind == "loop":
        assert titles(drawing) == ["w", "× 0.999", "+×2499", "× 0.999×2499", "loss"]
    assert len(drawing.boxes) < 10 if kind != "tangle" else len(drawing.boxes) > 4000


def test_a_loop_folds_with_the_inputs_of_its_rounds():
    cell, h = nn.Linear(4, 4), gg.zeros(1, 4)
    xs = [gg.randn(1, 4, requires_grad=True) for _ in range(40)]
    for x in xs:
        h = (cell(h) + x).tanh()
    loss = h.sum()
    # One round starts with "+": the first linear has a constant as input, the others what tanh made.
    assert titles(draw(loss)) == [
        "xs[0]×39", "x", "linear", "+×39", "tanh×39", "linear×39", "+", "h", "loss",
    ]  # fmt: skip
