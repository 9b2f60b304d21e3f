"""Products of matrices: every rank rule against PyTorch, einsum, and messages whose hints are true."""

import importlib

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.errors import ArgumentError, AxisError, DTypeError, ShapeError
from glassgrad.ops.matmul import (
    addmm,
    baddbmm,
    bmm,
    dot,
    einsum,
    ger,
    linear,
    matmul,
    mm,
    mv,
    outer,
    tensordot,
)
from oracle import same_as_torch


def check(function, *arrays, **keywords):
    torch = pytest.importorskip("torch")
    name = function.__name__
    named = torch.nn.functional.linear if name == "linear" else getattr(torch, name)
    ours, theirs = (lambda *xs, f=f: f(*xs, **keywords) for f in (function, named))
    same_as_torch(torch, ours, theirs, *arrays, tolerance=10)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3,), (3,)),
        ((0,), (0,)),
        ((3,), (3, 4)),
        ((3,), (2, 3, 4)),
        ((3,), (5, 2, 3, 4)),
        ((4, 3), (3,)),
        ((2, 4, 3), (3,)),
        ((2, 3), (3, 4)),
        ((1, 3), (3, 1)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 3, 4), (1, 4, 5)),
        ((7, 1, 3, 4), (2, 4, 5)),
        ((7, 2, 3, 4), (4, 5)),
        ((2, 3), (7, 1, 3, 4)),
        ((0, 3), (3, 4)),
        ((2, 0), (0, 4)),
        ((0, 2, 3), (3, 4)),
        ((2, 3), (0, 3, 4)),
    ],
)
def test_matmul_has_pytorchs_rank_rules(a, b, rng):
    check(matmul, rng.standard_normal(a), rng.standard_normal(b))


@pytest.mark.parametrize(("a", "b"), [((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (6, 4, 2)), ((4,), (3, 4, 2)), ((3,), (3,))])
def test_second_derivative_through_broadcasting(a, b, rng):
    tensors = [gg.tensor(rng.standard_normal(s), requires_grad=True) for s in (a, b)]
    assert gg.gradgradcheck(matmul, tensors)


@pytest.mark.parametrize(
    ("function", "shapes", "keywords"),
    [
        (mm, [(2, 3), (3, 4)], {}),
        (bmm, [(5, 2, 3), (5, 3, 4)], {}),
        (mv, [(2, 3), (3,)], {}),
        (dot, [(3,), (3,)], {}),
        (outer, [(3,), (4,)], {}),
        (outer, [(0,), (4,)], {}),
        (ger, [(3,), (4,)], {}),
        (addmm, [(2, 4), (2, 3), (3, 4)], {}),
        (addmm, [(4,), (2, 3), (3, 4)], {"beta": 0.5, "alpha": -2}),
        (addmm, [(), (2, 3), (3, 4)], {"beta": 2}),
        (baddbmm, [(2, 1), (5, 2, 3), (5, 3, 4)], {"beta": 0.5, "alpha": 3}),
        (linear, [(5, 3), (4, 3), (4,)], {}),
        (linear, [(3,), (4, 3), (4,)], {}),
        (linear, [(2, 5, 3), (4, 3)], {}),
        (linear, [(0, 3), (4, 3), (4,)], {}),
        (linear, [(5, 3), (4, 3), ()], {}),
        (linear, [(5, 3), (4, 3), (1,)], {}),
        (tensordot, [(2, 3, 4), (3, 4, 5)], {}),
        (tensordot, [(2, 3), (4,)], {"dims": 0}),
        (tensordot, [(2, 3, 4), (4, 5, 2)], {"dims": ([-1, 0], [0, 2])}),
    ],
)
def test_relatives_of_matmul(function, shapes, keywords, rng):
    check(function, *[rng.standard_normal(s) for s in shapes], **keywords)


def test_beta_zero_hides_a_nan():
    y = addmm(gg.tensor([float("nan")]), gg.ones(2, 2), gg.ones(2, 2), beta=0)
    assert y.tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_integers_multiply_exactly():
    a = gg.tensor([[1, 2], [3, 2**40]])
    assert (a @ a).dtype == gg.int64
    assert (a @ a).tolist() == (a.numpy() @ a.numpy()).tolist()


def test_the_operator_takes_arrays_on_both_sides(rng):
    a, b = rng.standard_normal((2, 3)), gg.tensor(rng.standard_normal((3, 4)))
    assert isinstance(a @ b, gg.Tensor)
    np.testing.assert_array_equal((a @ b).data, (gg.tensor(a) @ b).data)
    np.testing.assert_array_equal((b.T @ a.T).data, (b.T @ gg.tensor(a.T)).data)


# -------------------------------------------------------------------------------------------------------------- einsum


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ij , jk -> ki", [(2, 3), (3, 4)]),
        ("ij->ji", [(2, 3)]),
        ("ba", [(2, 3)]),
        ("ij->", [(2, 3)]),
        ("ii", [(3, 3)]),
        ("ii->i", [(3, 3)]),
        ("iij->ji", [(3, 3, 2)]),
        ("iii->i", [(3, 3, 3)]),
        ("ijij->ij", [(2, 3, 2, 3)]),
        ("ii,i->i", [(3, 3), (3,)]),
        ("i,i->", [(3,), (3,)]),
        ("i,j->ij", [(3,), (4,)]),
        ("i,j->", [(3,), (4,)]),
        ("ij,ij->ij", [(2, 3), (2, 3)]),
        ("ij,ji->", [(2, 3), (3, 2)]),
        ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)]),
        ("bij,kj->bik", [(5, 2, 3), (4, 3)]),
        ("bqhd,bkhd->bhqk", [(2, 3, 4, 5), (2, 6, 4, 5)]),
        ("bhqk,bkhd->bqhd", [(2, 4, 3, 6), (2, 6, 4, 5)]),
        ("abcd,bdae->ec", [(2, 3, 4, 5), (3, 5, 2, 6)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
        ("ij,jk,k->i", [(2, 3), (3, 4), (4,)]),
        ("i,ijk,j,k->", [(2,), (2, 3, 4), (3,), (4,)]),
        ("...ij,...jk", [(5, 2, 3), (3, 4)]),
        ("...ij,...jk->...ik", [(7, 1, 2, 3), (5, 3, 4)]),
        ("b...a", [(2, 3, 4)]),
        ("b...a->a", [(2, 3, 4)]),
        ("...,...", [(2, 1), (3,)]),
        ("i...->...", [(2, 3)]),
        ("...i->i...", [(2, 4, 3)]),
        ("ij,jk", [(2, 1), (3, 4)]),
        ("ij,ij->i", [(2, 3), (1, 3)]),
        ("ij,ij->ij", [(2, 1), (1, 3)]),
        ("aB,Bc", [(2, 3), (3, 4)]),
        ("ij,jk->ik", [(2, 0), (0, 4)]),
        ("ij,jk->ik", [(0, 3), (3, 4)]),
        (",ij->ij", [(), (2, 3)]),
    ],
)
def test_einsum(equation, shapes, rng):
    torch = pytest.importorskip("torch")
    ours, theirs = (lambda *xs, f=f: f(equation, *xs) for f in (einsum, torch.einsum))
    same_as_torch(torch, ours, theirs, *[rng.standard_normal(s) for s in shapes], tolerance=10)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("iij,jk,k->i", [(2, 2, 3), (3, 2), (2,)]), ("...i,...i->...", [(2, 3), (3,)])],
)
def test_second_derivative_of_einsum(equation, shapes, rng):
    tensors = [gg.tensor(rng.standard_normal(s), requires_grad=True) for s in shapes]
    assert gg.gradcheck(lambda *xs: einsum(equation, *xs), tensors)
    assert gg.gradgradcheck(lambda *xs: einsum(equation, *xs), tensors)


def test_einsum_contracts_the_cheapest_pair_first(monkeypatch, rng):
    module = importlib.import_module("glassgrad.ops.matmul")
    pairs, contract = [], module._contract

    def watched(a, a_names, b, b_names, kept):
        pairs.append((a_names, b_names))
        return contract(a, a_names, b, b_names, kept)

    monkeypatch.setattr(module, "_contract", watched)
    einsum("ij,jk,k->i", gg.ones(20, 30), gg.ones(30, 40), gg.ones(40))
    assert pairs == [(["j", "k"], ["k"]), (["i", "j"], ["j"])]  # matrix times vector, twice


def test_einsum_of_one_operand_moves_nothing():
    a = gg.ones(2, 3)
    assert np.shares_memory(einsum("ij->ji", a).data, a.data)


# ------------------------------------------------------------------------------------------------------------ messages

CASES = {
    "b.T": (lambda: gg.ones(3, 4) @ gg.ones(5, 4), ShapeError, r"matmul: inner sizes differ: a is \(3, 4\), b is \(5, 4\); a.shape\[-1\]=4 must equal b.shape\[-2\]=5. b.T would fit."),
    "b.mT": (lambda: gg.ones(3, 4) @ gg.ones(2, 5, 4), ShapeError, r"b\.mT would fit\.$"),
    "a.T": (lambda: gg.ones(4, 3) @ gg.ones(4, 5), ShapeError, r"a\.T would fit\.$"),
    "no hint": (lambda: gg.ones(3, 4) @ gg.ones(5, 6), ShapeError, r"b\.shape\[-2\]=5\.$"),
    "vector": (lambda: gg.ones(3) @ gg.ones(4), ShapeError, r"a\.shape\[-1\]=3 must equal b\.shape\[-1\]=4\.$"),
    "batch": (lambda: gg.ones(2, 3, 4) @ gg.ones(5, 4, 3), ShapeError, r"batch sizes do not broadcast.*got \(2,\) and \(5,\)"),
    "no dims": (lambda: gg.tensor(1.0) @ gg.ones(2), ShapeError, r"Use \* for a number"),
    "dtypes": (lambda: gg.ones(2, 2) @ gg.ones(2, 2, dtype=gg.float64), DTypeError, r"a is float32, b is float64.*Use a\.to\(gg\.float64\)"),
    "int and float": (lambda: gg.ones(2, 2) @ gg.ones(2, 2, dtype=gg.int64), DTypeError, r"Use b\.to\(gg\.float32\)"),
    "bool": (lambda: gg.ones(2, 2, dtype=gg.bool) @ gg.ones(2, 2, dtype=gg.bool), DTypeError, "bool"),
    "a list": (lambda: matmul(gg.ones(2), [1.0, 2.0]), DTypeError, "matmul: b: got list"),
    "mm": (lambda: mm(gg.ones(2, 3, 4), gg.ones(4, 5)), ShapeError, "mm: input is not a matrix.*matmul takes any"),
    "bmm": (lambda: bmm(gg.ones(2, 3, 4), gg.ones(1, 4, 5)), ShapeError, r"input\.shape\[0\]=2 must equal mat2\.shape\[0\]=1"),
    "mv": (lambda: mv(gg.ones(3, 4), gg.ones(3)), ShapeError, r"mv: inner sizes differ.*input\.T would fit"),
    "dot": (lambda: dot(gg.ones(3), gg.ones(3, 1)), ShapeError, "dot: tensor is not a vector"),
    "outer": (lambda: outer(gg.ones(3), 2.0), DTypeError, "outer: vec2: got float"),
    "addmm": (lambda: addmm(gg.ones(3, 4), gg.ones(2, 3), gg.ones(3, 4)), ShapeError, "addmm: input does not fit"),
    "addmm, larger input": (lambda: addmm(gg.ones(5, 2, 4), gg.ones(2, 3), gg.ones(3, 4)), ShapeError, r"got \(5, 2, 4\)"),
    "linear": (lambda: linear(gg.ones(2, 3), gg.ones(3, 4)), ShapeError, r"weight\.T, which is \(4, 3\), would fit"),
    "linear, no hint": (lambda: linear(gg.ones(2, 3), gg.ones(5, 4)), ShapeError, r"must equal weight\.shape\[1\]=4\.$"),
    "linear of a number": (lambda: linear(gg.tensor(1.0), gg.ones(5, 4)), ShapeError, "features differ"),
    "bias": (lambda: linear(gg.ones(2, 3), gg.ones(4, 3), gg.ones(3)), ShapeError, r"bias does not fit.*expected \(4,\)"),
    "weight": (lambda: linear(gg.ones(2, 3), gg.ones(3)), ShapeError, r"expected \(out, in\)"),
    "terms": (lambda: einsum("ij,jk", gg.ones(2, 2)), ArgumentError, "2 for 1 operands"),
    "letters": (lambda: einsum("i1->i", gg.ones(2, 2)), ArgumentError, "'1'"),
    "two arrows": (lambda: einsum("i->j->k", gg.ones(2)), ArgumentError, "one '->'"),
    "rank": (lambda: einsum("ijk->i", gg.ones(2, 2)), ShapeError, "operand 0, called 'ijk'.*expected 3 dims"),
    "rank with dots": (lambda: einsum("ij...k", gg.ones(2, 2)), ShapeError, "operand 0"),
    "sizes": (lambda: einsum("ij,jk", gg.ones(2, 3), gg.ones(4, 5)), ShapeError, "sizes of 'j' differ.*3 and 4"),
    "diagonal": (lambda: einsum("ii", gg.ones(2, 3)), ShapeError, "twice in an operand of shape"),
    "unknown": (lambda: einsum("ij->ik", gg.ones(2, 3)), ArgumentError, "'k'"),
    "twice": (lambda: einsum("ij->ii", gg.ones(2, 3)), ArgumentError, "'i' twice"),
    "no operands": (lambda: einsum("ij->ii"), ArgumentError, "no operands"),
    "no equation": (lambda: einsum(gg.ones(2)), ArgumentError, "not a string"),
    "einsum dtypes": (lambda: einsum("i,i", gg.ones(2), gg.ones(2, dtype=gg.int64)), DTypeError, "operand 1 is int64"),
    "tensordot": (lambda: tensordot(gg.ones(2, 3), gg.ones(4, 5), 1), ShapeError, "3 and 4"),
    "tensordot dims": (lambda: tensordot(gg.ones(2, 3), gg.ones(4), 2), ArgumentError, "0 to 1"),
    "tensordot pairs": (lambda: tensordot(gg.ones(2, 3), gg.ones(3), ([1, 0], [0])), ArgumentError, "equally long"),
    "tensordot axis": (lambda: tensordot(gg.ones(2, 3), gg.ones(3), ([2], [0])), AxisError, "dim=2"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_message(name):
    call, exception, words = CASES[name]
    with pytest.raises(exception, match=words):
        call()
