"""Movement ops beyond their samples: what is a view, what PyTorch takes as arguments, and refusals."""

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.errors import ArgumentError, AxisError, DTypeError, ShapeError
from glassgrad.ops.movement import viewable
from oracle import agree, both_refuse

X = np.arange(24.0).reshape(2, 3, 4)
ONE = np.arange(3.0)


def check(*calls, x=X):
    for call in calls:
        agree(call, x)


def test_reshape_and_its_family():
    check(
        lambda lib, t: t.reshape(4, 6),
        lambda lib, t: t.reshape((2, -1)),
        lambda lib, t: lib.reshape(t, (-1,)),
        lambda lib, t: t.transpose(0, 2).reshape(12, 2),
        lambda lib, t: t.view(6, 4),
        lambda lib, t: t.view(-1, 2, 2).view([24]),
        lambda lib, t: t.transpose(1, 2).view(2, 2, 2, 3),
        lambda lib, t: t.flatten(),
        lambda lib, t: t.flatten(1),
        lambda lib, t: lib.flatten(t, 0, 1),
        lambda lib, t: t.mT.flatten(start_dim=-2),
        lambda lib, t: t.unflatten(2, (2, -1)),
        lambda lib, t: lib.unflatten(t, -1, (2, 2)),
        lambda lib, t: t.unsqueeze(0).unsqueeze(-1).squeeze(),
        lambda lib, t: t[:1, :, :1].squeeze(),
        lambda lib, t: t[:1, :, :1].squeeze(0),
        lambda lib, t: t.squeeze(1),
        lambda lib, t: t[:1, :, :1].squeeze((0, -1)),
    )
    check(lambda lib, t: t.flatten(), lambda lib, t: t.reshape(1, 1), lambda lib, t: t.squeeze(0), x=np.array(2.0))
    check(
        lambda lib, t: t.reshape(0, 5),
        lambda lib, t: t.reshape(-1, 3),
        lambda lib, t: t.view(3, 0, 2),
        x=np.zeros((2, 0, 3)),
    )


def test_permute_and_its_family():
    check(
        lambda lib, t: t.permute(2, 0, 1),
        lambda lib, t: lib.permute(t, (-1, 0, 1)),
        lambda lib, t: t.transpose(0, -1),
        lambda lib, t: t.swapaxes(1, 2),
        lambda lib, t: t.mT,
        lambda lib, t: t[0].T,
        lambda lib, t: t[0].t(),
        lambda lib, t: t[0, 0].t(),
        lambda lib, t: t.movedim(0, 2),
        lambda lib, t: lib.movedim(t, (0, 1), (-1, 0)),
        lambda lib, t: t.movedim((2, 0), (0, 2)),
    )
    check(lambda lib, t: t.t(), lambda lib, t: t.transpose(0, -1), lambda lib, t: t.permute(()), x=np.array(2.0))


def test_parts():
    check(
        lambda lib, t: t.split(2, 2),
        lambda lib, t: t.split([1, 0, 2], dim=1),
        lambda lib, t: lib.split(t, 5),
        lambda lib, t: t.chunk(3, -1),
        lambda lib, t: t.chunk(2, 1),
        lambda lib, t: t.unbind(),
        lambda lib, t: lib.unbind(t, -1),
        lambda lib, t: t.narrow(2, 1, 2),
        lambda lib, t: t.narrow(1, -2, 2),
        lambda lib, t: t.select(1, -1),
        lambda lib, t: t.diagonal(),
        lambda lib, t: t.diagonal(1, 2, 0),
        lambda lib, t: t.diagonal(-1, dim1=1, dim2=-1),
    )
    check(lambda lib, t: t.chunk(2), lambda lib, t: t.split(2), x=np.zeros((0, 2)))
    check(lambda lib, t: t.split(0), x=np.zeros((0, 2)))


def test_a_gradient_may_come_through_some_parts_only():
    check(lambda lib, t: t.split(1, 1)[1], lambda lib, t: t.unbind(2)[3], lambda lib, t: list(t.chunk(2, 2))[:1])


def test_joining():
    y = X + 100
    for call in (
        lambda lib, a, b: lib.cat([a, b]),
        lambda lib, a, b: lib.cat((a, b, a), dim=-1),
        lambda lib, a, b: lib.concat([a, b], 1),
        lambda lib, a, b: lib.stack([a, b]),
        lambda lib, a, b: lib.stack([a, b], dim=-1),
        lambda lib, a, b: lib.cat([a, lib.tensor([1.0, 2.0]).new_zeros(0) if lib is not gg else gg.zeros(0), b]),
        lambda lib, a, b: lib.cat([a, lib.ones(2, 3, 4, dtype=lib.int64)]),
        lambda lib, a, b: lib.stack([a[0, 0, 0], b[0, 0, 0]]),
    ):
        agree(call, X, y)


def test_repeating():
    check(
        lambda lib, t: t.repeat(2, 1, 3),
        lambda lib, t: t.repeat((2, 1, 1, 1)),
        lambda lib, t: t.repeat(0, 1, 1),
        lambda lib, t: lib.tile(t, (2,)),
        lambda lib, t: t.tile(2, 1),
        lambda lib, t: t.repeat_interleave(2),
        lambda lib, t: t.repeat_interleave(3, dim=1),
        lambda lib, t: lib.repeat_interleave(t, lib.tensor([2, 0, 1]), dim=1),
        lambda lib, t: t.expand(5, 2, 3, 4),
        lambda lib, t: t[:, :1].expand(-1, 6, -1),
        lambda lib, t: t[0, 0].expand_as(t),
        lambda lib, t: lib.broadcast_to(t[0], (2, 3, 4)),
        lambda lib, t: t[0, 0, 0].expand(2, 2),
        lambda lib, t: t[0, 0, 0].expand(0, 2),
    )


def test_reordering():
    check(
        lambda lib, t: t.flip(0, 2),
        lambda lib, t: lib.flip(t, (-1,)),
        lambda lib, t: t.flip([1]),
        lambda lib, t: t.roll(1, 0),
        lambda lib, t: lib.roll(t, (1, -2), (0, 2)),
        lambda lib, t: t.roll(5),
        lambda lib, t: t.roll((1, 1), (2, 2)),
        lambda lib, t: t.tril(),
        lambda lib, t: lib.triu(t, 1),
        lambda lib, t: t.mT.tril(diagonal=-1),
        lambda lib, t: lib.diag(t[0], 1),
        lambda lib, t: lib.diag(t[0, 0], -1),
        lambda lib, t: lib.meshgrid(t[0, 0], t[0, :, 0], indexing="ij"),
        lambda lib, t: lib.meshgrid(t[0, 0], t[0, :, 0], indexing="xy"),
        lambda lib, t: lib.clone(t.mT),
        lambda lib, t: t.mT.contiguous(),
    )
    check(lambda lib, t: t.flip(0), x=np.array(1.0))


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.reshape(4, 6), lambda t: t.view(24), lambda t: t.flatten(1), lambda t: t.unflatten(2, (2, 2)),
        lambda t: t.unsqueeze(1), lambda t: t.squeeze(), lambda t: t.permute(2, 0, 1), lambda t: t.mT, lambda t: t[0].T,
        lambda t: t.transpose(0, 1), lambda t: t.movedim(0, 1), lambda t: t.narrow(2, 1, 2), lambda t: t.select(0, 1),
        lambda t: t.split(1, 1)[2], lambda t: t.chunk(2, 2)[1], lambda t: t.unbind(1)[1], lambda t: t.diagonal(),
        lambda t: t[0, 1], lambda t: t[0, 1, 2], lambda t: t[..., ::2], lambda t: t[:, None], lambda t: t[:, ::-1],
    ],
)  # fmt: skip
def test_views_share_memory(call):
    x = gg.tensor(X)
    before = x.version
    y = call(x)
    assert np.shares_memory(y.data, x.data)
    y.fill_(7.0)
    assert (x == 7.0).any()
    assert x.version > before


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.clone(),
        lambda t: t.mT.reshape(24),
        lambda t: t.flip(0),
        lambda t: t.mT.contiguous(),
        lambda t: t.repeat(1, 1, 1),
    ],
)
def test_copies_do_not(call):
    x = gg.tensor(X)
    y = call(x)
    y.zero_()
    assert x.tolist() == X.tolist()
    assert x.version == 0


def test_an_expanded_tensor_is_read_only_and_takes_no_memory():
    y = gg.ones(3, 1).expand(3, 1000)
    assert y.stride() == (1, 0)
    with pytest.raises(ArgumentError, match="read-only"):
        y.fill_(2.0)


def test_contiguous_is_itself_when_it_can_be():
    x = gg.tensor(X)
    assert x.contiguous() is x
    assert x.mT.contiguous().is_contiguous()


def test_viewable_agrees_with_numpy(rng):
    for _ in range(300):
        shape = tuple(rng.choice([1, 2, 3, 4], rng.integers(0, 5)))
        x = np.zeros([2 * n for n in shape])
        x = x[*(slice(0, 2 * n, 2) if rng.random() < 0.3 else slice(0, n) for n in shape), ...].transpose(
            rng.permutation(len(shape))
        )
        target = list(x.shape)
        for _ in range(4):  # merge and cut at random
            i = rng.integers(0, len(target) + 1)
            if i + 1 < len(target) and rng.random() < 0.6:
                target[i : i + 2] = [target[i] * target[i + 1]]
            elif i < len(target) and target[i] % 2 == 0:
                target[i : i + 1] = [2, target[i] // 2]
            else:
                target.insert(i, 1)
        assert viewable(x.shape, x.strides, target) == np.shares_memory(x.reshape(target), x), (
            x.shape,
            x.strides,
            target,
        )


def test_gradients_reach_the_base_through_chains_of_views():
    check(lambda lib, t: t.mT.unsqueeze(0)[0, 1].reshape(-1)[2:5].view(3, 1).expand(3, 2))


def test_second_derivatives_through_views():
    x = gg.tensor(X, requires_grad=True)
    assert gg.gradgradcheck(
        lambda t: gg.cat([p * p for p in t.split([1, 2], 1)], 1).diagonal().flip(0) ** 2, x, fast_mode=True
    )


def test_refusals_say_what_to_do():
    x = gg.tensor(X)
    with pytest.raises(ShapeError, match=r"view: strides do not allow .*Use reshape"):
        x.transpose(0, 1).view(24)
    with pytest.raises(
        ShapeError, match=r"reshape: shape does not hold the elements: got \(7,\), 7 elements; expected 24"
    ):
        x.reshape(7)
    with pytest.raises(ShapeError, match="a multiple of 5"):
        x.reshape(5, -1)
    with pytest.raises(ShapeError, match="at most one -1"):
        x.reshape(-1, -1)
    with pytest.raises(ShapeError, match="-1 could be any size"):
        gg.zeros(0, 3).reshape(-1, 0)
    with pytest.raises(DTypeError, match="reshape: sizes"):
        x.reshape(2.0, 12)
    with pytest.raises(ShapeError, match=r"expand: size.*unsqueeze"):
        x.expand(2, 5, 4)
    with pytest.raises(ShapeError, match="expand"):
        x.expand(-1, 2, 3, 4)
    with pytest.raises(ArgumentError, match=r"permute: dims: got \(0, 0, 1\)"):
        x.permute(0, 0, 1)
    with pytest.raises(AxisError, match="a 0-d tensor"):
        gg.tensor(1.0).unbind()
    with pytest.raises(ShapeError, match=r"cat: sizes of tensor 1 beside dim 0: got \(3, 3\); expected \(any, 2\)"):
        gg.cat([gg.zeros(2, 2), gg.zeros(3, 3)])
    with pytest.raises(ShapeError, match="stack: shape of tensor 1"):
        gg.stack([gg.zeros(2), gg.zeros(3)])
    with pytest.raises(ShapeError, match="add up to 3"):
        x.split([1, 1], 1)
    with pytest.raises(ShapeError, match="mT: input"):
        gg.zeros(3).mT  # noqa: B018


@pytest.mark.parametrize(
    "call",
    [
        lambda lib, t: t.view(5, -1), lambda lib, t: t.transpose(0, 1).view(-1), lambda lib, t: t.t(), lambda lib, t: t.repeat(2),
        lambda lib, t: t.unflatten(0, (3, -1)), lambda lib, t: t[0, 0].tril(), lambda lib, t: t.narrow(1, 2, 2),
        lambda lib, t: t.select(1, 5), lambda lib, t: t.select(3, 0), lambda lib, t: lib.stack([]), lambda lib, t: lib.cat([t, t[0]]),
        lambda lib, t: lib.cat([t[0, 0, 0]]), lambda lib, t: t.permute(0), lambda lib, t: t.unsqueeze(4), lambda lib, t: t.chunk(0),
        lambda lib, t: t.split(0), lambda lib, t: t.squeeze(3), lambda lib, t: t.transpose(0, 3), lambda lib, t: t.flip(0, 0),
        lambda lib, t: t.movedim((0, 0), (1, 2)), lambda lib, t: t.flatten(2, 1), lambda lib, t: t.roll((1, 2), 0),
        lambda lib, t: t.diagonal(0, 1, 1), lambda lib, t: t[0, 0].diagonal(), lambda lib, t: lib.diag(t),
        lambda lib, t: t.repeat_interleave(lib.tensor([1, 2]), dim=1), lambda lib, t: t.repeat(-1, 1, 1),
        lambda lib, t: t.repeat_interleave(-1), lambda lib, t: t.unbind(3), lambda lib, t: t.expand(3, 4),
    ],
)  # fmt: skip
def test_what_pytorch_refuses_is_refused(call):
    both_refuse(call, X)
