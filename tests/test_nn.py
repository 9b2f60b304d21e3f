"""Modules and layers: bookkeeping, hooks, printing, and every layer against PyTorch with its state copied over."""

import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import nn, optim
from glassgrad.errors import ArgumentError, AxisError, DTypeError, GraphError, ShapeError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.fc2 = nn.Linear(8, 3, bias=False)
        self.scale = nn.Parameter(gg.ones(1))
        self.register_buffer("seen", gg.zeros(1))
        self.register_buffer("scratch", gg.zeros(1), persistent=False)

    def forward(self, x):
        return self.fc2(self.norm(self.fc1(x)).relu()) * self.scale


# -------------------------------------------------------------------------------------------------------- bookkeeping


def test_everything_is_found_by_name_and_in_order():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == [
        "scale", "fc1.weight", "fc1.bias", "norm.weight", "norm.bias", "fc2.weight",
    ]  # fmt: skip
    assert [n for n, _ in net.named_parameters(recurse=False)] == ["scale"]
    assert [n for n, _ in net.named_buffers("net")][:3] == ["net.seen", "net.scratch", "net.norm.running_mean"]
    assert [n for n, _ in net.named_modules()] == ["", "fc1", "norm", "fc2"]
    assert list(net.children()) == [net.fc1, net.norm, net.fc2]
    assert [n for n, _ in net.named_children()] == ["fc1", "norm", "fc2"]
    assert len(list(net.parameters())) == 6 and len(list(net.buffers())) == 5 and len(list(net.modules())) == 4
    assert net.get_submodule("norm") is net.norm and net.get_parameter("fc1.weight") is net.fc1.weight


def test_shared_parameters_and_modules_are_listed_once():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    net.append(net[0])
    net.tied = nn.Linear(3, 3)
    net.tied.weight = net[0].weight
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "tied.bias"]
    assert len(list(net.named_parameters(remove_duplicate=False))) == 6
    assert len(list(net.modules())) == 4
    assert {"2.weight", "tied.weight"} <= set(net.state_dict())


def test_assignment_files_by_type():
    m = nn.Module()
    m.weight = nn.Parameter(gg.ones(2))
    m.child = nn.ReLU()
    m.plain = gg.ones(2)
    assert [list(m._parameters), list(m._modules), list(m._buffers)] == [["weight"], ["child"], []]
    m.weight = None
    assert list(m.parameters()) == [] and m.weight is None
    m.weight = nn.Parameter(gg.zeros(2))
    with pytest.raises(DTypeError, match="nn.Parameter"):
        m.weight = gg.ones(2)
    with pytest.raises(DTypeError, match="registered module"):
        m.child = 3
    m.register_buffer("mean", gg.zeros(2))
    m.mean = gg.ones(2)
    assert m.state_dict()["mean"].tolist() == [1.0, 1.0]
    with pytest.raises(DTypeError, match="registered buffer"):
        m.mean = 3
    m.mean = nn.Parameter(gg.ones(2))
    assert list(m._buffers) == [] and list(m._parameters) == ["weight", "mean"]
    del m.weight
    assert not hasattr(m, "weight") and list(m._parameters) == ["mean"]
    m.plain = nn.ReLU()
    assert list(m._modules) == ["child", "plain"]
    with pytest.raises(TypeError):
        m._modules["other"] = nn.ReLU()


def test_missing_super_init_says_so():
    class Forgetful(nn.Module):
        def __init__(self, value):
            self.value = value

    for value in (nn.Parameter(gg.ones(1)), nn.ReLU()):
        with pytest.raises(AttributeError, match=r"Forgetful.*super\(\).__init__\(\)"):
            Forgetful(value)
    half = Forgetful(3)
    for use in (lambda: half(1), lambda: list(half.parameters()), lambda: half.register_buffer("b", gg.ones(1))):
        with pytest.raises(AttributeError, match=r"Forgetful.*super\(\).__init__\(\)"):
            use()


def test_missing_attribute_says_what_there_is():
    with pytest.raises(AttributeError, match=r"Linear: got no attribute 'wieght'.*weight, bias") as caught:
        _ = nn.Linear(2, 2).wieght
    assert caught.value.name == "wieght"
    with pytest.raises(AttributeError):
        Net().get_submodule("fc1.weight")
    with pytest.raises(AttributeError):
        Net().get_parameter("fc1")


def test_no_forward_says_so():
    with pytest.raises(NotImplementedError, match="forward"):
        nn.ModuleList()(1)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda m: m.register_parameter("a.b", None), ArgumentError, "without dots"),
        (lambda m: m.register_buffer("", None), ArgumentError, "not empty"),
        (lambda m: m.register_parameter("p", gg.ones(1)), DTypeError, "got Tensor; expected Parameter"),
        (lambda m: m.register_buffer("b", 3.0), DTypeError, "got float"),
        (lambda m: m.register_module("m", print), DTypeError, "expected Module"),
        (lambda m: m.register_buffer("forward", gg.ones(1)), ArgumentError, "taken"),
        (lambda m: m.train("yes"), DTypeError, "True or False"),
        (lambda m: m.to(gg.int64), DTypeError, "floating"),
        (lambda m: m.to(device="cuda"), ArgumentError, "'cpu'"),
        (lambda m: nn.Parameter(gg.tensor([1])), DTypeError, "floating"),
    ],
)
def test_nonsense_says_so(make, error, match):
    with pytest.raises(error, match=match):
        make(nn.Module())


def test_modes_freezing_and_apply():
    net = Net()
    order = []
    assert net.apply(lambda m: order.append(type(m).__name__)) is net
    assert order == ["Linear", "BatchNorm1d", "Linear", "Net"]
    assert net.training and not net.eval().training and not net.norm.training and net.train().norm.training
    assert not any(p.requires_grad for p in net.requires_grad_(False).parameters())


def test_zero_grad():
    net = nn.Linear(2, 2)
    for p in net.parameters():
        p.grad = gg.ones_like(p)
    net.zero_grad(set_to_none=False)
    assert net.bias.grad.tolist() == [0.0, 0.0]
    net.zero_grad()
    assert net.bias.grad is None


def test_to_changes_floats_only_and_keeps_the_objects():
    net = Net()
    before = list(net.parameters())
    net.scale.grad = gg.ones(1)
    assert net.double() is net
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))
    assert all(p.dtype == gg.float64 for p in net.parameters())
    assert net.scale.grad.dtype == gg.float64
    assert (net.norm.running_mean.dtype, net.norm.num_batches_tracked.dtype) == (gg.float64, gg.int64)
    assert net.half().scale.dtype == gg.float16 and net.to("cpu").float().scale.dtype == gg.float32
    assert net.to(gg.ones(1, dtype=gg.float64)).scale.dtype == gg.float64


def test_a_graph_does_not_survive_a_change_of_dtype():
    layer = nn.Linear(2, 2)
    y = layer(gg.ones(1, 2, requires_grad=True))
    layer.double()
    with pytest.raises(GraphError, match="modified in place"):
        y.backward(gg.ones(1, 2))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_whole_and_independent(again):
    net = Net().eval()
    net.fc2.weight.grad = gg.ones(3, 8)
    net.tied = net.fc1
    net.requires_grad_(False).scale.requires_grad_()
    other = again(net)
    assert not other.training and other.tied is other.fc1 and isinstance(other.scale, nn.Parameter)
    assert other.scale.requires_grad and not other.fc1.weight.requires_grad
    for (name, a), (_, b) in zip(net.state_dict().items(), other.state_dict().items(), strict=True):
        np.testing.assert_array_equal(a.data, b.data, err_msg=name)
        assert not np.shares_memory(a.data, b.data)
    assert repr(net) == repr(other)
    other.extra = nn.ReLU()
    assert "extra" not in net._modules


# -------------------------------------------------------------------------------------------------------------- state


def test_state_shares_memory_and_leaves_out_what_is_not_persistent():
    net = Net()
    state = net.state_dict()
    assert list(state) == [
        "scale", "seen", "fc1.weight", "fc1.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
        "norm.num_batches_tracked", "fc2.weight",
    ]  # fmt: skip
    assert state["scale"].data is net.scale.data and not state["scale"].requires_grad
    assert net.state_dict(keep_vars=True)["scale"] is net.scale
    assert list(net.fc1.state_dict(prefix="x.")) == ["x.weight", "x.bias"]


def test_loading():
    source, target = Net(), Net().double()
    y = target.scale * target.scale
    assert target.load_state_dict(source.state_dict()) == ([], [])
    for (name, a), (_, b) in zip(source.state_dict().items(), target.state_dict().items(), strict=True):
        np.testing.assert_array_equal(a.data, b.data, err_msg=name)
    assert target.scale.dtype == gg.float64
    with pytest.raises(GraphError, match="modified in place"):
        y.backward(gg.ones(1, dtype=gg.float64))


def test_loading_what_does_not_fit_names_it_and_changes_nothing():
    net = Net()
    before = {k: v.data.copy() for k, v in net.state_dict().items()}
    state = {k: v + 1 for k, v in net.state_dict().items()}
    state["fc3.bias"] = state.pop("fc1.bias")
    with pytest.raises(
        ArgumentError, match=r"fc1.bias is missing; fc3.bias is unexpected.*Nothing was changed.*strict=False"
    ):
        net.load_state_dict(state)
    state["fc2.weight"] = gg.ones(8, 3)
    for strict in (True, False):
        with pytest.raises(ShapeError, match=r"fc2.weight has shape \(8, 3\), expected \(3, 8\)"):
            net.load_state_dict(state, strict=strict)
    state["fc2.weight"] = np.array([["a"]])
    with pytest.raises(DTypeError, match="fc2.weight"):
        net.load_state_dict(state)
    with pytest.raises(DTypeError, match="a dict"):
        net.load_state_dict([1])
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.data, before[name])
    del state["fc2.weight"]
    keys = net.load_state_dict(state, strict=False)
    assert keys == (["fc1.bias", "fc2.weight"], ["fc3.bias"])
    np.testing.assert_array_equal(net.scale.data, before["scale"] + 1)


# -------------------------------------------------------------------------------------------------------------- hooks


def test_forward_hooks():
    layer, calls = nn.ReLU(), []
    handles = [
        layer.register_forward_pre_hook(lambda m, args: (args[0] + 1,)),
        layer.register_forward_pre_hook(lambda m, args, kwargs: calls.append(kwargs), with_kwargs=True, prepend=True),
        layer.register_forward_hook(lambda m, args, y: calls.append((m is layer, args[0].tolist(), y.tolist()))),
        layer.register_forward_hook(lambda m, args, kwargs, y: y * 2, with_kwargs=True),
    ]
    assert layer(gg.tensor([-2.0, 1.0])).tolist() == [0.0, 4.0]
    assert calls == [{}, (True, [-1.0, 2.0], [0.0, 2.0])]
    for handle in handles:
        handle.remove()
    assert layer(gg.tensor([-2.0, 1.0])).tolist() == [0.0, 1.0] and len(calls) == 2


class TwoInTwoOut(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(gg.tensor([2.0]))

    def forward(self, a, factor, b):
        return a * self.w * factor, b * a


def test_backward_hook_sees_complete_gradients():
    module, seen = TwoInTwoOut(), []
    module.register_full_backward_hook(lambda m, dx, dy: seen.append((m is module, dx, dy)))
    a, b = gg.tensor([3.0], requires_grad=True), gg.tensor([5.0], requires_grad=True)
    u, v = module(a, 10, b)
    (u + v).backward()
    ((same, dx, dy),) = seen
    assert same and [d if d is None else d.tolist() for d in dx] == [[25.0], None, [3.0]]
    assert [d.tolist() for d in dy] == [[1.0], [1.0]]
    assert (a.grad.tolist(), b.grad.tolist(), module.w.grad.tolist()) == ([25.0], [3.0], [30.0])


def test_backward_hook_can_replace_the_gradient_and_works_twice():
    module = nn.Identity()
    handle = module.register_full_backward_hook(lambda m, dx, dy: (dx[0] * 10,))
    x = gg.tensor([1.0], requires_grad=True)
    module(module(x)).backward()
    assert x.grad.tolist() == [100.0]
    handle.remove()
    x.grad = None
    module(x).backward()
    assert x.grad.tolist() == [1.0]


def test_backward_hook_without_input_gradient():
    layer, seen = nn.Linear(2, 1), []
    layer.register_full_backward_hook(lambda m, dx, dy: seen.append((dx, dy[0].tolist())))
    layer(gg.ones(1, 2)).backward(gg.ones(1, 1))
    assert seen == [((None,), [[1.0]])]
    assert layer.weight.grad.tolist() == [[1.0, 1.0]]
    with gg.no_grad():
        layer(gg.ones(1, 2))
    assert len(seen) == 1


def test_backward_hook_wrong_count_says_so():
    module = nn.Identity()
    module.register_full_backward_hook(lambda m, dx, dy: (dx[0], dx[0]))
    with pytest.raises(ArgumentError, match="got 2; expected 1"):
        module(gg.ones(1, requires_grad=True)).backward()


def test_hooked_outputs_may_be_changed_in_place():
    first = nn.Identity()
    first.register_full_backward_hook(lambda m, dx, dy: None)
    x = gg.tensor([-1.0, 2.0], requires_grad=True)
    y = nn.ReLU(inplace=True)(first(x * 3.0))
    y.backward(gg.ones(2))
    assert y.tolist() == [0.0, 6.0] and x.grad.tolist() == [0.0, 3.0]


# --------------------------------------------------------------------------------------------------------- containers


def test_sequential():
    a, b, c = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)
    net = nn.Sequential(a, b).append(c)
    x = gg.ones(4, 2)
    np.testing.assert_array_equal(net(x).data, c(b(a(x))).data)
    assert len(net) == 3 and net[-1] is c and list(net) == [a, b, c] and isinstance(net[:2], nn.Sequential)
    net.insert(1, nn.Tanh())
    assert list(net.state_dict()) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    del net[1]
    assert list(net) == [a, b, c] and list(net.state_dict())[-1] == "2.bias"
    net[1] = nn.Identity()
    assert net.pop() is c and len(net) == 2
    net.extra = nn.Parameter(gg.ones(1))
    assert net(x).shape == (4, 3) and len(net) == 2


def test_sequential_of_names():
    net = nn.Sequential(OrderedDict(first=nn.Linear(2, 2), act=nn.ReLU()))
    assert net.first is net[0] and list(net.state_dict()) == ["first.weight", "first.bias"]
    assert list(net[1:]._modules) == ["act"]
    net.append(nn.Tanh())
    assert list(net._modules) == ["first", "act", "2"]
    with pytest.raises(ArgumentError, match="insert"):
        net.insert(0, nn.Tanh())
    del net[0]
    assert list(net._modules) == ["act", "2"]


def test_lists_and_dicts():
    layers = nn.ModuleList([nn.Linear(1, 1)]) + [nn.ReLU()]
    layers += [nn.Tanh()]
    assert isinstance(layers, nn.ModuleList) and len(layers) == 3 and layers[1] in layers
    with pytest.raises(AxisError, match="3 elements"):
        layers[3]
    with pytest.raises(DTypeError, match=r"nn.ReLU\(\)"):
        layers.append(nn.functional.relu)
    named = nn.ModuleDict({"a": nn.Linear(1, 1)})
    named["b"] = nn.ReLU()
    assert list(named) == list(named.keys()) == ["a", "b"] and "a" in named and len(named) == 2
    assert [n for n, _ in named.items()] == ["a", "b"] and list(named.values())[1] is named["b"]
    assert list(named.state_dict()) == ["a.weight", "a.bias"]
    with pytest.raises(KeyError, match="one of a, b"):
        named["c"]
    with pytest.raises(ArgumentError, match="taken"):
        named["keys"] = nn.ReLU()
    named.pop("a")
    named.clear()
    assert len(named) == 0
    numbers = nn.ParameterList([gg.ones(2), nn.Parameter(gg.zeros(3))])
    assert [n for n, _ in numbers.named_parameters()] == ["0", "1"] and numbers[0].requires_grad
    with pytest.raises(DTypeError, match="ParameterList"):
        numbers.append(nn.ReLU())


# ------------------------------------------------------------------------------------------------------ against PyTorch

LAYERS = [
    # source, shapes of the inputs
    ("Linear(5, 4)", (3, 5)),
    ("Linear(5, 4, bias=False)", (2, 3, 5)),
    ("Linear(5, 4)", (5,)),
    ("Identity()", (3,)),
    ("Conv1d(4, 6, 3, stride=2, padding=1)", (2, 4, 9)),
    ("Conv1d(4, 6, 3, padding='same', dilation=2, groups=2, bias=False)", (2, 4, 9)),
    ("Conv2d(3, 4, 3)", (2, 3, 6, 5)),
    ("Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)", (2, 4, 7, 6)),
    ("Conv2d(3, 4, 3, padding='same')", (2, 3, 6, 5)),
    ("Conv2d(3, 4, 3)", (3, 6, 5)),
    ("ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)", (2, 4, 5, 4)),
    ("ConvTranspose2d(3, 4, (2, 3), dilation=2, bias=False)", (2, 3, 5, 4)),
    ("BatchNorm1d(4)", (6, 4)),
    ("BatchNorm1d(4, momentum=None, eps=1e-3)", (6, 4, 3)),
    ("BatchNorm2d(4, affine=False)", (3, 4, 2, 5)),
    ("BatchNorm2d(4, track_running_stats=False)", (3, 4, 2, 5)),
    ("LayerNorm(5)", (2, 3, 5)),
    ("LayerNorm((3, 5), bias=False)", (2, 3, 5)),
    ("LayerNorm(5, elementwise_affine=False)", (2, 3, 5)),
    ("GroupNorm(2, 6)", (3, 6, 4)),
    ("GroupNorm(3, 6, affine=False)", (3, 6, 4, 2)),
    ("RMSNorm(5)", (2, 3, 5)),
    ("RMSNorm((3, 5), eps=1e-3, elementwise_affine=False)", (2, 3, 5)),
    ("Dropout(0.0)", (3, 4)),
    ("Flatten()", (2, 3, 4)),
    ("Flatten(0, 1)", (2, 3, 4)),
    ("Unflatten(1, (2, 3))", (2, 6, 4)),
    ("Unflatten(-1, (2, -1))", (2, 6, 4)),
    ("MaxPool1d(2)", (2, 3, 7)),
    ("MaxPool1d(3, stride=2, padding=1, ceil_mode=True)", (2, 3, 8)),
    ("MaxPool2d(2)", (2, 3, 6, 7)),
    ("MaxPool2d((3, 2), stride=1, padding=1, dilation=2)", (2, 3, 6, 7)),
    ("AvgPool1d(3, stride=2, padding=1)", (2, 3, 8)),
    ("AvgPool2d(2, ceil_mode=True)", (2, 3, 5, 7)),
    ("AvgPool2d(3, stride=2, padding=1, count_include_pad=False)", (2, 3, 5, 7)),
    ("AvgPool2d(2, divisor_override=3)", (2, 3, 4, 4)),
    ("AdaptiveAvgPool1d(3)", (2, 3, 7)),
    ("AdaptiveAvgPool2d(2)", (2, 3, 5, 7)),
    ("AdaptiveAvgPool2d((None, 3))", (2, 3, 5, 7)),
    ("ReLU()", (3, 4)),
    ("LeakyReLU(0.2)", (3, 4)),
    ("ELU(0.5)", (3, 4)),
    ("GELU()", (3, 4)),
    ("GELU(approximate='tanh')", (3, 4)),
    ("SiLU()", (3, 4)),
    ("Softplus()", (3, 4)),
    ("Softplus(beta=2.0, threshold=1.0)", (3, 4)),
    ("LogSigmoid()", (3, 4)),
    ("Sigmoid()", (3, 4)),
    ("Tanh()", (3, 4)),
    ("Softmax(dim=-1)", (3, 4)),
    ("LogSoftmax(dim=0)", (3, 4)),
]


@pytest.mark.parametrize(("source", "shape"), LAYERS, ids=[s for s, _ in LAYERS])
def test_layers_agree_with_pytorch(source, shape):
    torch = pytest.importorskip("torch")
    ours, theirs = eval(source, vars(nn)).double(), eval(source, vars(torch.nn)).double()
    assert repr(ours) == repr(theirs)
    state = theirs.state_dict()
    assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == {k: tuple(v.shape) for k, v in state.items()}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    rng = np.random.default_rng(0)
    for mode in (True, True, False):
        ours.train(mode)
        theirs.train(mode)
        array = rng.standard_normal(shape)
        x, t = gg.tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
        y, expected = ours(x), theirs(t)
        np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-9, atol=1e-12)
        dy = rng.standard_normal(y.shape)
        y.backward(gg.tensor(dy))
        expected.backward(torch.tensor(dy))
        np.testing.assert_allclose(x.grad.data, t.grad.numpy(), rtol=1e-8, atol=1e-11)
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad.data, q.grad.numpy(), rtol=1e-8, atol=1e-11, err_msg=name)
        for (name, b), c in zip(ours.named_buffers(), theirs.buffers(), strict=True):
            np.testing.assert_allclose(b.data, c.numpy(), rtol=1e-12, err_msg=name)


def test_embedding_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    ours, theirs = nn.Embedding(6, 3, padding_idx=-2).double(), torch.nn.Embedding(6, 3, padding_idx=-2).double()
    assert repr(ours) == repr(theirs) and not ours.weight.data[4].any()
    ours.load_state_dict(theirs.state_dict())
    index = np.array([[0, 4, 5], [5, 4, 1]])
    y, expected = ours(gg.tensor(index)), theirs(torch.tensor(index))
    np.testing.assert_array_equal(y.data, expected.detach().numpy())
    (y * y).backward(gg.ones_like(y))
    (expected * expected).sum().backward()
    np.testing.assert_allclose(ours.weight.grad.data, theirs.weight.grad.numpy(), rtol=1e-12)
    table = nn.Embedding.from_pretrained(ours.weight.detach(), freeze=True)
    assert not table.weight.requires_grad and table.weight.data is ours.weight.data


LOSSES = [
    ("MSELoss({})", "regression"),
    ("L1Loss({})", "regression"),
    ("HuberLoss(delta=0.5, {})", "regression"),
    ("SmoothL1Loss(beta=0.5, {})", "regression"),
    ("SmoothL1Loss(beta=0.0, {})", "regression"),
    ("CrossEntropyLoss({})", "classes"),
    ("CrossEntropyLoss(weight, label_smoothing=0.1, ignore_index=2, {})", "classes"),
    ("CrossEntropyLoss(weight, {})", "probabilities"),
    ("NLLLoss({})", "classes"),
    ("NLLLoss(weight, ignore_index=2, {})", "classes"),
    ("BCELoss({})", "binary"),
    ("BCEWithLogitsLoss({})", "binary"),
    ("BCEWithLogitsLoss(weight, pos_weight=weight, {})", "binary"),
    ("KLDivLoss({})", "divergence"),
    ("KLDivLoss(log_target=True, {})", "regression"),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("source", "kind"), LOSSES, ids=[f"{s}-{k}" for s, k in LOSSES])
def test_losses_agree_with_pytorch(source, kind, reduction):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    x = rng.uniform(0.1, 0.9, (5, 3)) if "BCELoss" in source else rng.standard_normal((5, 3))
    weight = np.array([0.5, 1.0, 2.0])
    target = {
        "regression": rng.standard_normal((5, 3)),
        "classes": np.array([0, 2, 1, 1, 0]),
        "probabilities": rng.dirichlet([1.0] * 3, 5),
        "binary": rng.uniform(size=(5, 3)).round(),
        "divergence": rng.dirichlet([1.0] * 3, 5),
    }[kind]
    source = source.format(f"reduction={reduction!r}")
    ours = eval(source, {**vars(nn), "weight": gg.tensor(weight)})
    theirs = eval(source, {**vars(torch.nn), "weight": torch.tensor(weight)})
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    a, b = gg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, expected = ours(a, gg.tensor(target)), theirs(b, torch.tensor(target))
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    y.backward(gg.ones_like(y))
    expected.backward(torch.ones_like(expected))
    np.testing.assert_allclose(a.grad.data, b.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_batchmean():
    torch = pytest.importorskip("torch")
    x, y = np.log([[0.5, 0.5], [0.1, 0.9]]), np.array([[0.25, 0.75], [0.5, 0.5]])
    ours = nn.KLDivLoss(reduction="batchmean")(gg.tensor(x), gg.tensor(y))
    assert ours.item() == pytest.approx(
        torch.nn.KLDivLoss(reduction="batchmean")(torch.tensor(x), torch.tensor(y)).item()
    )


def _conv_net(nn):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3), nn.GroupNorm(2, 6), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip


def _mlp(nn):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(36, 10), nn.LayerNorm(10), nn.GELU(), nn.Dropout(0.0),
        nn.ModuleDict({"out": nn.Linear(10, 3)})["out"],
    )  # fmt: skip


@pytest.mark.parametrize("build", [_conv_net, _mlp])
@pytest.mark.parametrize(
    ("name", "options"),
    [("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}), ("AdamW", {"lr": 0.01}), ("RMSprop", {"lr": 0.005})],
)
def test_twenty_training_steps_agree_with_pytorch(build, name, options):
    torch = pytest.importorskip("torch")
    ours, theirs = build(nn).double(), build(torch.nn).double()
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    optimizer = getattr(optim, name)(ours.parameters(), **options)
    oracle = getattr(torch.optim, name)(theirs.parameters(), **options)
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((8, 1, 6, 6)), rng.integers(0, 3, 8)
    for _ in range(20):
        optimizer.zero_grad()
        oracle.zero_grad()
        loss = nn.CrossEntropyLoss()(ours(gg.tensor(x)), gg.tensor(target))
        expected = torch.nn.CrossEntropyLoss()(theirs(torch.tensor(x)), torch.tensor(target))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-7)
        loss.backward()
        expected.backward()
        nn.utils.clip_grad_norm_(ours.parameters(), 1.0)
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        oracle.step()
    theirs_again = build(torch.nn).double()
    theirs_again.load_state_dict({k: torch.tensor(v.data) for k, v in ours.state_dict().items()})
    for (key, value), expected in zip(theirs_again.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(value.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6, err_msg=key)


def test_printing_agrees_with_pytorch():
    torch = pytest.importorskip("torch")

    def build(nn, ones):
        class Custom(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.Tanh())])
                self.heads = nn.ModuleDict({"a": nn.Linear(2, 1), "b": nn.Identity()})
                self.empty, self.nothing = nn.ModuleList(), nn.Sequential()
                self.inplace = nn.Sequential(nn.ReLU(inplace=True), nn.LeakyReLU(inplace=True), nn.ELU(2.0, True))

            def extra_repr(self):
                return "one line\nand another"

        return repr(Custom()), repr(nn.Parameter(ones(2)))

    assert build(nn, gg.ones) == build(torch.nn, torch.ones)


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_clipping_agrees_with_pytorch(norm_type, scale):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    grads = [rng.standard_normal(s) * scale for s in ((3, 4), (5,), ())]
    ours = [gg.zeros(np.shape(g), dtype=gg.float64, requires_grad=True) for g in grads]
    theirs = [torch.zeros(np.shape(g), dtype=torch.float64, requires_grad=True) for g in grads]
    for p, q, g in zip(ours, theirs, grads, strict=True):
        p.grad, q.grad = gg.tensor(np.asarray(g)), torch.tensor(np.asarray(g))
    unused = gg.ones(2, requires_grad=True)
    total = nn.utils.clip_grad_norm_([*ours, unused], 0.5, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, 0.5, norm_type)
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad.data, q.grad.numpy(), rtol=1e-12)
    nn.utils.clip_grad_value_(ours, 1e-4)
    assert all(abs(p.grad.data).max() <= 1e-4 for p in ours)


# ------------------------------------------------------------------------------------------------- layers, by hand


def test_clipping_at_the_ends_of_float32():
    w = gg.zeros(4, requires_grad=True)
    w.grad = gg.full((4,), 1e25)
    assert nn.utils.clip_grad_norm_(w, 2.0).item() == pytest.approx(2e25)
    np.testing.assert_allclose(w.grad.data, 1.0, rtol=1e-6)
    w.grad = gg.full((4,), 1e-25)
    assert nn.utils.clip_grad_norm_(w, 1.0).item() == pytest.approx(2e-25)
    w.grad = gg.full((4,), float("inf"))
    with pytest.raises(ArgumentError, match="finite"):
        nn.utils.clip_grad_norm_(w, 1.0, error_if_nonfinite=True)
    assert nn.utils.clip_grad_norm_([], 1.0).item() == 0.0


def test_parameters_as_a_vector_and_back():
    net = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(net.parameters())
    assert vector.shape == (9,) and vector.requires_grad
    nn.utils.vector_to_parameters(gg.arange(9).to(gg.float32), net.parameters())
    assert net.weight.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]] and net.bias.tolist() == [6.0, 7.0, 8.0]
    with pytest.raises(ShapeError, match=r"\(9,\)"):
        nn.utils.vector_to_parameters(gg.ones(8), net.parameters())


@pytest.mark.parametrize("layer", [nn.ReLU, nn.SiLU, nn.ELU, nn.LeakyReLU, lambda inplace: nn.Dropout(0.0, inplace)])
def test_in_place_gives_the_same_gradient(layer):
    results = []
    for inplace in (False, True):
        x = gg.tensor([-1.5, 0.5, 2.0], requires_grad=True)
        h = x * 2.0
        y = layer(inplace=inplace)(h)
        (y * y).backward(gg.ones(3))
        results.append((y.tolist(), x.grad.tolist()))
        assert (h.tolist() == y.tolist()) or not inplace
    assert results[0] == results[1]


def test_dropout_drops_in_training_only():
    layer = nn.Dropout(0.25)
    x = gg.ones(4000)
    y = layer(x).data
    assert set(np.unique(y).round(4)) == {0.0, np.float32(4 / 3).round(4)} and 0.2 < (y == 0).mean() < 0.3
    assert layer.eval()(x).tolist() == x.tolist()


def test_batch_norm_counts_batches():
    norm = nn.BatchNorm1d(2)
    for _ in range(3):
        norm(gg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    norm.eval()(gg.ones(2, 2))
    assert norm.num_batches_tracked.item() == 3
    norm.reset_running_stats()
    assert norm.num_batches_tracked.item() == 0 and norm.running_var.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("dtype", [gg.float32, gg.float64])
def test_a_network_learns_xor(dtype):
    x = gg.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=dtype)
    target = gg.tensor([[0.0], [1.0], [1.0], [0.0]], dtype=dtype)
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1)).to(dtype)
    optimizer = optim.Adam(net.parameters(), lr=0.05)
    criterion = nn.BCEWithLogitsLoss()
    for _ in range(200):
        optimizer.zero_grad()
        loss = criterion(net(x), target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: nn.Linear(-1, 2), ArgumentError, "in_features: got -1"),
        (lambda: nn.Linear(2.0, 2), DTypeError, "in_features: got 2.0"),
        (lambda: nn.Conv2d(3, 4, 0), ArgumentError, "kernel_size"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), ArgumentError, "kernel_size.*2"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ArgumentError, "groups: got 2; expected a divisor of in_channels=3"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), ArgumentError, "out_channels=3"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), ArgumentError, "'valid', 'same'"),
        (lambda: nn.Conv2d(3, 4, 3, padding="same", stride=2), ArgumentError, "stride"),
        (lambda: nn.Conv1d(3, 4, 3, padding=-1), ArgumentError, "padding"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="reflect"), ArgumentError, "padding_mode"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, output_padding=1), ArgumentError, "output_padding"),
        (lambda: nn.BatchNorm1d(0), ArgumentError, "num_features"),
        (lambda: nn.BatchNorm2d(3, momentum=2.0), ArgumentError, "momentum"),
        (lambda: nn.BatchNorm2d(3)(gg.ones(2, 3)), ShapeError, "BatchNorm2d: input.*4-D"),
        (lambda: nn.LayerNorm(()), ArgumentError, "at least one size"),
        (lambda: nn.LayerNorm(3, eps=-1.0), ArgumentError, "eps"),
        (lambda: nn.GroupNorm(4, 6), ArgumentError, "num_channels=6"),
        (lambda: nn.Dropout(1.5), ArgumentError, "p: got 1.5; expected a number from 0 to 1"),
        (lambda: nn.Dropout(float("nan")), ArgumentError, "p: got nan"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), ArgumentError, "padding_idx"),
        (lambda: nn.MaxPool2d(2, padding=2), ArgumentError, "at most half"),
        (lambda: nn.AvgPool2d(2, divisor_override=0), ArgumentError, "divisor_override"),
        (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), ArgumentError, "output_size"),
        (lambda: nn.Unflatten(1, (2, 2))(gg.ones(1, 5)), ShapeError, "product is 5"),
        (lambda: nn.GELU("fast"), ArgumentError, "'none', 'tanh'"),
        (lambda: nn.Softmax()(gg.ones(2)), DTypeError, "dim=-1"),
        (lambda: nn.MSELoss(reduction="avg"), ArgumentError, "MSELoss: reduction"),
        (lambda: nn.HuberLoss(delta=0.0), ArgumentError, "delta"),
        (lambda: nn.CrossEntropyLoss(label_smoothing=2.0), ArgumentError, "label_smoothing"),
        (lambda: nn.CrossEntropyLoss([1.0]), DTypeError, "weight"),
        (lambda: nn.utils.clip_grad_norm_([], -1.0), ArgumentError, "max_norm"),
        (lambda: nn.utils.parameters_to_vector([]), ArgumentError, "at least one"),
    ],
)
def test_constructors_check_their_arguments(make, error, match):
    with pytest.raises(error, match=match):
        make()
