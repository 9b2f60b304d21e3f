"""Products of matrices: matmul and what is made of it.

forward    y[i, j] = sum_k a[i, k] b[k, j], for every batch index in front
backward   da = dy b^T,  db = a^T dy: the only products of the three whose shapes fit. Where a batch axis was broadcast,
           its gradients are summed.
linear     y = x w^T + b, with the weight stored as (out, in): dx = dy w, dw = dy^T x, db = sum of dy over the rows
native     csrc/cpu/matmul/, csrc/cpu/linear.cpp
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError, check_dim, message
from ..op import Op, Sample, apply
from ..tensor import Tensor, wrap

# ----------------------------------------------------------------------------------------------------------------- ops


def _rows(x):
    """(..., cols) as (rows, cols)."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _db(dy, a, shapes):
    if len(shapes[1]) == 2 and dy.ndim > 2:
        a, dy = _rows(a), _rows(dy)  # one product with the batch folded into the rows, instead of many and their sum
    return apply(_matmul, a.transpose(-2, -1), dy)


def _matmul_samples(rng):
    for a, b in (
        ((3, 4), (4, 5)),
        ((1, 17), (17, 1)),
        ((33, 7), (7, 35)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((0, 4), (4, 3)),
        ((3, 0), (0, 2)),
        ((0, 2, 3), (3, 2)),
    ):
        yield Sample((rng.standard_normal(a), rng.standard_normal(b)))
    yield Sample((rng.standard_normal((4, 3)).T, rng.standard_normal((5, 4)).T), name="transposed")


_matmul: Op = Op(
    "matmul",
    lambda a, b: np.matmul(a, b),
    vjps=(lambda dy, b: apply(_matmul, dy, b.transpose(-2, -1)), _db),
    samples=_matmul_samples,
    broadcasts=True,
    doc="matmul: y[i, j] = sum_k a[i, k] b[k, j]; derivatives dy b^T, a^T dy.",
)


def _linear_reference(x, weight, bias):
    y = np.matmul(x, weight.T)
    return y if bias is None else y + bias


def _linear_samples(rng):
    for rows, out, features in (((5,), 4, 3), ((), 4, 3), ((2, 3), 17, 9), ((0,), 4, 3), ((2,), 0, 3), ((2,), 3, 0)):
        x, weight = rng.standard_normal((*rows, features)), rng.standard_normal((out, features))
        yield Sample((x, weight, rng.standard_normal(out)))
    yield Sample((rng.standard_normal((5, 3)), rng.standard_normal((4, 3)), None), name="no bias")


_linear: Op = Op(
    "linear",
    _linear_reference,
    vjps=(
        lambda dy, weight: matmul(dy, weight),
        lambda dy, x: apply(_matmul, _rows(dy).transpose(0, 1), _rows(x)),
        lambda dy, shapes: dy.sum_to_size(shapes[2]),
    ),
    fused_vjp=("linear_backward", "x", "weight", "needs"),
    samples=_linear_samples,
    doc="linear: y = x w^T + b; derivatives dy w, dy^T x, the sum of dy over the rows.",
)


def _linear_relu_reference(x, weight, bias):
    return np.maximum(_linear_reference(x, weight, bias), 0)


def _linear_relu_vjp(dy, y, x, weight, shapes, needs):
    dy = dy * (y > 0)
    return [
        matmul(dy, weight) if needs[0] else None,
        apply(_matmul, _rows(dy).transpose(0, 1), _rows(x)) if needs[1] else None,
        dy.sum_to_size(shapes[2]) if needs[2] else None,
    ]


_linear_relu: Op = Op(
    "linear_relu",
    _linear_relu_reference,
    vjp=_linear_relu_vjp,
    fused_vjp=("linear_relu_backward", "y", "x", "weight", "needs"),
    samples=_linear_samples,
    doc="linear_relu: y = max(x w^T + b, 0); derivatives as linear's, of dy where y > 0.",
)

# -------------------------------------------------------------------------------------------------------------- checks


def _operands(op, **named):
    """Tensors of one dtype that has products, or an error that says which is not."""
    tensors = []
    for name, x in named.items():
        if not isinstance(x, Tensor):
            if not isinstance(x, np.ndarray):
                raise DTypeError(f"{op}: {name}: got {type(x).__name__}; expected a tensor.")
            x = wrap(x)
        tensors.append(x)
    first = tensors[0].data.dtype
    for name, x in zip(named, tensors, strict=True):
        if x.data.dtype != first:
            head = next(iter(named))
            raise DTypeError(
                f"{op}: dtypes differ: {head} is {first}, {name} is {x.dtype}; expected one dtype. "
                f"Use {_cast_hint(head, first, name, x.dtype)}."
            )
    if first.kind == "b":
        raise DTypeError(f"{op}: got dtype bool; expected numbers. Use .to(gg.float32).")
    return tensors


def _cast_hint(a, a_dtype, b, b_dtype):
    """Which of two to convert: the one that loses nothing by it."""
    better_b = (b_dtype.kind == "f", b_dtype.itemsize) > (a_dtype.kind == "f", a_dtype.itemsize)
    return f"{a}.to(gg.{b_dtype})" if better_b else f"{b}.to(gg.{a_dtype})"


def _check_inner(op, a, b, names=("a", "b")):
    """The sizes that a product sums over; a and b have at least one dim each."""
    back = min(b.ndim, 2)
    if a.shape[-1] == b.shape[-back]:
        return
    (x, y), hint = names, ""
    if b.ndim > 1 and a.shape[-1] == b.shape[-1]:
        hint = f" {y}.{'T' if b.ndim == 2 else 'mT'} would fit."
    elif a.ndim > 1 and a.shape[-2] == b.shape[-back]:
        hint = f" {x}.{'T' if a.ndim == 2 else 'mT'} would fit."
    raise ShapeError(
        f"{op}: inner sizes differ: {x} is {a.shape}, {y} is {b.shape}; "
        f"{x}.shape[-1]={a.shape[-1]} must equal {y}.shape[{-back}]={b.shape[-back]}.{hint}"
    )


def _check_batch(op, a, b):
    x, y = a.shape[:-2], b.shape[:-2]
    if x and y and x != y:
        try:
            np.broadcast_shapes(x, y)
        except ValueError:
            raise ShapeError(
                f"{op}: batch sizes do not broadcast: a is {a.shape}, b is {b.shape}; got {x} and {y} before the last "
                "two; expected sizes that are equal or 1, counted from the back."
            ) from None


def _check_rank(op, **expected):
    for name, (x, ndim) in expected.items():
        if x.ndim != ndim:
            shape = {1: "a vector", 2: "a matrix", 3: "a batch of matrices"}[ndim]
            hint = "" if op in ("dot", "outer") else "matmul takes any number of dims."
            raise ShapeError(message(op, f"{name} is not {shape}", x.shape, f"{ndim} dims", hint))


# ------------------------------------------------------------------------------------------------------------ products


def matmul(input, other) -> Tensor:
    """The matrix product ``input @ other``.

    Two matrices (m, k) @ (k, n) -> (m, n). Dims before the last two are a batch and broadcast. A vector is taken as one
    row on the left and as one column on the right, and that dim is dropped again: (k,) @ (k,) -> ().

    Raises:
        ShapeError: inner sizes differ, batches do not broadcast, or an operand has no dims.
        DTypeError: operands of different dtypes, or bools.

    >>> import glassgrad as gg
    >>> gg.tensor([[1.0, 2.0], [3.0, 4.0]]) @ gg.tensor([1.0, 1.0])
    tensor([3., 7.])
    """
    if isinstance(input, Tensor) and isinstance(other, Tensor):
        x, y = input.data, other.data
        if x.ndim == y.ndim == 2 and x.shape[1] == y.shape[0] and x.dtype == y.dtype and x.dtype.kind != "b":
            return apply(_matmul, input, other)
    return _general_matmul(input, other)


def _general_matmul(input, other):
    a, b = _operands("matmul", a=input, b=other)
    rows, cols = a.ndim > 1, b.ndim > 1
    if not a.ndim or not b.ndim:
        got = f"{a.shape} and {b.shape}"
        raise ShapeError(message("matmul", "no dims", got, "at least one each", "Use * for a number."))
    _check_inner("matmul", a, b)
    if rows and cols:
        if a.ndim > 2 and b.ndim > 2:
            _check_batch("matmul", a, b)
        return apply(_matmul, a, b)
    a = a if rows else a.reshape(1, a.shape[0])
    b = b if cols else b.reshape(b.shape[0], 1)
    y = apply(_matmul, a, b)
    return y.reshape(y.shape[:-2] + y.shape[-2:-1] * rows + y.shape[-1:] * cols)


def mm(input, mat2) -> Tensor:
    """The product of two matrices: (m, k), (k, n) -> (m, n)."""
    a, b = _operands("mm", input=input, mat2=mat2)
    _check_rank("mm", input=(a, 2), mat2=(b, 2))
    _check_inner("mm", a, b, ("input", "mat2"))
    return apply(_matmul, a, b)


def bmm(input, mat2) -> Tensor:
    """The products of two batches of matrices: (b, m, k), (b, k, n) -> (b, m, n), without broadcasting."""
    a, b = _operands("bmm", input=input, mat2=mat2)
    _check_rank("bmm", input=(a, 3), mat2=(b, 3))
    if a.shape[0] != b.shape[0]:
        raise ShapeError(
            f"bmm: batch sizes differ: input is {a.shape}, mat2 is {b.shape}; input.shape[0]={a.shape[0]} must equal "
            f"mat2.shape[0]={b.shape[0]}."
        )
    _check_inner("bmm", a, b, ("input", "mat2"))
    return apply(_matmul, a, b)


def mv(input, vec) -> Tensor:
    """A matrix times a vector: (m, k), (k,) -> (m,)."""
    a, b = _operands("mv", input=input, vec=vec)
    _check_rank("mv", input=(a, 2), vec=(b, 1))
    _check_inner("mv", a, b, ("input", "vec"))
    return matmul(a, b)


def dot(input, tensor) -> Tensor:
    """The sum of products of two vectors: (k,), (k,) -> ().

    >>> import glassgrad as gg
    >>> gg.dot(gg.tensor([1.0, 2.0]), gg.tensor([3.0, 4.0]))
    tensor(11.)
    """
    a, b = _operands("dot", input=input, tensor=tensor)
    _check_rank("dot", input=(a, 1), tensor=(b, 1))
    _check_inner("dot", a, b, ("input", "tensor"))
    return matmul(a, b)


def outer(input, vec2) -> Tensor:
    """All products of two vectors: (m,), (n,) -> (m, n)."""
    for name, x in (("input", input), ("vec2", vec2)):
        if not isinstance(x, Tensor):
            raise DTypeError(f"outer: {name}: got {type(x).__name__}; expected a tensor.")
    _check_rank("outer", input=(input, 1), vec2=(vec2, 1))
    return input.reshape(input.shape[0], 1) * vec2


def ger(input, vec2) -> Tensor:
    """``outer``'s name in BLAS."""
    return outer(input, vec2)


def _plus(op, input, product, beta, alpha):
    """beta input + alpha product. With beta 0 input is not looked at: its NaNs do not count."""
    try:
        fits = np.broadcast_shapes(input.shape, product.shape) == product.shape
    except ValueError:
        fits = False
    if not fits:
        expected = f"a shape that broadcasts to {product.shape}"
        raise ShapeError(message(op, "input does not fit the product", input.shape, expected))
    y = product if alpha == 1 else product * alpha
    if beta == 0:
        return y
    return y + (input if beta == 1 else input * beta)


def addmm(input, mat1, mat2, *, beta=1, alpha=1) -> Tensor:
    """beta input + alpha (mat1 @ mat2); ``input`` broadcasts to the product, and is ignored when beta is 0."""
    input, a, b = _operands("addmm", input=input, mat1=mat1, mat2=mat2)
    _check_rank("addmm", mat1=(a, 2), mat2=(b, 2))
    _check_inner("addmm", a, b, ("mat1", "mat2"))
    return _plus("addmm", input, apply(_matmul, a, b), beta, alpha)


def baddbmm(input, batch1, batch2, *, beta=1, alpha=1) -> Tensor:
    """beta input + alpha bmm(batch1, batch2); ``input`` broadcasts to the product, and is ignored when beta is 0."""
    input, a, b = _operands("baddbmm", input=input, batch1=batch1, batch2=batch2)
    return _plus("baddbmm", input, bmm(a, b), beta, alpha)


def linear(input, weight, bias=None) -> Tensor:
    """input @ weight.T + bias, the affine map of a fully connected layer.

    Args:
        input: (..., in)
        weight: (out, in)
        bias: (out,), or None for none.

    Returns:
        (..., out)

    >>> import glassgrad as gg
    >>> gg.linear(gg.ones(1, 3), gg.ones(2, 3), gg.tensor([0.0, 1.0]))
    tensor([[3., 4.]])
    """
    if isinstance(input, Tensor) and isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor)):
        x, w = input.data, weight.data
        dtype = x.dtype
        if x.ndim and w.ndim == 2 and x.shape[-1] == w.shape[1] and dtype == w.dtype and dtype.kind != "b":
            if bias is None or (bias.data.dtype == dtype and bias.data.shape == w.shape[:1]):
                return apply(_linear, input, weight, bias)
    return apply(_linear, *_checked_linear(input, weight, bias))


def linear_relu(input, weight, bias=None) -> Tensor:
    """relu(linear(input, weight, bias)) in one pass: the product's tiles go through relu before they leave the cache.

    Arguments, shapes and errors are those of ``linear``.

    >>> import glassgrad as gg
    >>> gg.nn.functional.linear_relu(gg.ones(1, 3), gg.ones(2, 3), gg.tensor([0.0, -4.0]))
    tensor([[3., 0.]])
    """
    return apply(_linear_relu, *_checked_linear(input, weight, bias))


def _checked_linear(input, weight, bias):
    """The operands, or the reason why they are none."""
    if bias is None:
        x, w = _operands("linear", input=input, weight=weight)
        b = None
    else:
        x, w, b = _operands("linear", input=input, weight=weight, bias=bias)
    if w.ndim != 2:
        raise ShapeError(message("linear", "weight is not a matrix", w.shape, "(out, in)"))
    out, features = w.shape
    if not x.ndim or x.shape[-1] != features:
        fits = x.ndim and x.shape[-1] == out
        hint = f" weight is (out, in): weight.T, which is {w.shape[::-1]}, would fit." if fits else ""
        got = f"input.shape[-1]={x.shape[-1]}" if x.ndim else "the last size of input"
        raise ShapeError(
            f"linear: features differ: input is {x.shape}, weight is {w.shape}; {got} must equal "
            f"weight.shape[1]={features}.{hint}"
        )
    if b is not None and b.shape != (out,):
        if b.shape not in ((), (1,)):
            raise ShapeError(message("linear", "bias does not fit weight", b.shape, f"({out},): weight.shape[0]={out}"))
        b = b.expand(out)
    return x, w, b


# -------------------------------------------------------------------------------------------------------------- einsum


def einsum(equation: str, *operands) -> Tensor:
    """Sum of products over named axes (Einstein's convention).

    ``"ij,jk->ik"`` names each operand's axes and those of the result; an axis that is not in the result is summed over.
    Without ``->`` the result has the letters that occur once, in alphabetical order. A letter twice in one operand takes
    the diagonal. ``...`` stands for any further axes, which broadcast. Operands are contracted two at a time, the pair
    that shrinks most first; each pair is one matmul.

    >>> import glassgrad as gg
    >>> a = gg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> gg.einsum("ii", a), gg.einsum("ij->j", a)
    (tensor(5.), tensor([4., 6.]))
    """
    if not isinstance(equation, str):
        expected = 'for instance "ij,jk->ik"'
        raise ArgumentError(message("einsum", "equation is not a string", type(equation).__name__, expected))
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if not operands:
        raise ArgumentError(message("einsum", "no operands", equation, "one tensor for each comma-separated term"))
    tensors = _operands("einsum", **{f"operand {i}": x for i, x in enumerate(operands)})
    terms, output = _parse(equation, tensors)
    return _sum_of_products("einsum", tensors, terms, output)


def _parse(equation, operands) -> tuple[list[list[str]], list[str]]:
    """The axes' names of each operand and of the result. The axes of an ellipsis are called "0", "1", ... from the back."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != len(operands):
        got = f"{len(texts)} for {len(operands)} operands"
        raise ArgumentError(message("einsum", f"terms in {left!r}", got, "one each"))

    def names(text, ndim=None):
        head, dots, tail = text.partition("...")
        for letter in head + tail:
            if not (letter.isascii() and letter.isalpha()):
                expected = "letters, commas, one '->' and '...'"
                raise ArgumentError(message("einsum", f"in {equation!r}", repr(letter), expected))
        extra = ndim - len(head + tail) if dots and ndim is not None else (len(longest) if dots else 0)
        return [*head, *[str(i) for i in reversed(range(extra))], *tail], extra

    terms: list[list[str]] = []
    longest: list[str] = []
    for i, (text, x) in enumerate(zip(texts, operands, strict=True)):
        term, extra = names(text, x.ndim)
        if len(term) != x.ndim or extra < 0:
            expected = f"{len(term) - extra} dims" + (" or more" if "." in text else "")
            raise ShapeError(message("einsum", f"operand {i}, called {text!r}", f"shape {x.shape}", expected))
        terms.append(term)
        longest = max(longest, [str(i) for i in reversed(range(extra))], key=len)
    every = [name for term in terms for name in term]
    if arrow:
        output, _ = names(right)
        for name in output:
            if output.count(name) > 1:
                raise ArgumentError(message("einsum", f"result {right!r}", f"{name!r} twice", "each letter once"))
            if name not in every:
                raise ArgumentError(message("einsum", f"result {right!r}", repr(name), f"letters of {left!r}"))
    else:
        output = longest + sorted(name for name in set(every) if every.count(name) == 1 and name.isalpha())
    return terms, output


def _sum_of_products(op, operands, terms, output) -> Tensor:
    parts = [_diagonal(op, x, term) for x, term in zip(operands, terms, strict=True)]
    sizes: dict = {}
    for i, (x, names) in enumerate(parts):
        for name, size in zip(names, x.shape, strict=True):
            known, owner = sizes.setdefault(name, (size, i))
            if known == 1 and size != 1:
                sizes[name] = size, i
            elif size not in (known, 1):
                raise ShapeError(
                    f"{op}: sizes of {name!r} differ: operand {owner} is {operands[owner].shape}, operand {i} is "
                    f"{operands[i].shape}; {known} and {size} must be equal or one of them 1."
                )
    for i, (x, names) in enumerate(parts):  # an axis that would have to be repeated is left out: broadcasting does it
        needed = [k for k, name in enumerate(names) if x.shape[k] == sizes[name][0]]
        if len(needed) < len(names):
            parts[i] = x.reshape([x.shape[k] for k in needed]), [names[k] for k in needed]
    for i, (x, names) in enumerate(parts):
        wanted = {*output, *[name for j, (_, others) in enumerate(parts) if j != i for name in others]}
        lonely = tuple(k for k, name in enumerate(names) if name not in wanted)
        if lonely:
            parts[i] = x.sum(lonely), [name for name in names if name in wanted]
    while len(parts) > 1:
        i, j = _best_pair(parts, output)
        (a, a_names), (b, b_names) = parts[i], parts.pop(j)
        kept = {*output, *[name for k, (_, names) in enumerate(parts) if k != i for name in names]}
        parts[i] = _contract(a, a_names, b, b_names, kept)
    ((y, names),) = parts
    return _arranged(y, names, output)


def _diagonal(op, x, term):
    """x and its axes' names, each once."""
    names = list(term)
    for name in dict.fromkeys(term):
        while names.count(name) > 1:
            first = names.index(name)
            second = names.index(name, first + 1)
            if x.shape[first] != x.shape[second]:
                raise ShapeError(
                    f"{op}: {name!r} is twice in an operand of shape {x.shape}, where its sizes are {x.shape[first]} and "
                    f"{x.shape[second]}; expected one size."
                )
            x = x.diagonal(0, first, second)  # puts the diagonal last
            names = [n for k, n in enumerate(names) if k not in (first, second)] + [name]
    return x, names


def _best_pair(operands, output):
    """The two whose product is smallest beside what it replaces."""
    if len(operands) == 2:
        return 0, 1

    def growth(pair):
        others = {name for k, (_, names) in enumerate(operands) if k not in pair for name in names} | {*output}
        sizes = {name: n for k in pair for name, n in zip(operands[k][1], operands[k][0].shape, strict=True)}
        result = math.prod(n for name, n in sizes.items() if name in others)
        return result - operands[pair[0]][0].numel() - operands[pair[1]][0].numel()

    return min(((i, j) for j in range(len(operands)) for i in range(j)), key=growth)


def _contract(a, a_names, b, b_names, kept):
    """The product of two operands, summed over the names that are not kept: one matmul, or one mul where none is summed."""
    larger = a_names if a.numel() >= b.numel() else b_names  # its order of axes decides: the larger is not copied
    batch = [name for name in larger if name in a_names and name in b_names and name in kept]
    summed = [name for name in larger if name in a_names and name in b_names and name not in kept]
    rows = [name for name in a_names if name not in b_names]
    cols = [name for name in b_names if name not in a_names]
    sizes = dict(zip(a_names + b_names, a.shape + b.shape, strict=True))

    def extent(*groups):
        return tuple(sizes[name] for group in groups for name in group)

    a, b = _arranged(a, a_names, batch + rows + summed), _arranged(b, b_names, batch + summed + cols)
    if not summed:
        a = _shaped(a, extent(batch, rows) + (1,) * len(cols))
        b = _shaped(b, extent(batch) + (1,) * len(rows) + extent(cols))
        return a * b, batch + rows + cols
    m, k, n = math.prod(extent(rows)), math.prod(extent(summed)), math.prod(extent(cols))
    y = apply(_matmul, _shaped(a, (*extent(batch), m, k)), _shaped(b, (*extent(batch), k, n)))
    return _shaped(y, extent(batch, rows, cols)), batch + rows + cols


def _arranged(x, names, wanted):
    return x if names == wanted else x.permute([names.index(name) for name in wanted])


def _shaped(x, shape):
    return x if x.shape == shape else x.reshape(shape)


def tensordot(a, b, dims: int | Sequence[Sequence[int]] = 2) -> Tensor:
    """Sum of products over ``dims``: the last ``dims`` of a with the first of b, or two lists of dims to pair.

    >>> import glassgrad as gg
    >>> gg.tensordot(gg.ones(2, 3, 4), gg.ones(4, 3), dims=([1, 2], [1, 0]))
    tensor([12., 12.])
    """
    a, b = _operands("tensordot", a=a, b=b)
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            expected = f"0 to {min(a.ndim, b.ndim)} for shapes {a.shape} and {b.shape}"
            raise ArgumentError(message("tensordot", "dims", dims, expected))
        pairs = [(a.ndim - dims + i, i) for i in range(dims)]
    else:
        left, right = ([check_dim("tensordot", d, x.ndim) for d in ds] for ds, x in zip(dims, (a, b), strict=True))
        if len(left) != len(right) or len(set(left)) != len(left) or len(set(right)) != len(right):
            raise ArgumentError(message("tensordot", "dims", dims, "two lists of different dims, equally long"))
        pairs = list(zip(left, right, strict=True))
    a_names = [f"a.shape[{i}]" for i in range(a.ndim)]
    b_names = [f"b.shape[{i}]" for i in range(b.ndim)]
    for i, j in pairs:
        b_names[j] = a_names[i]
    summed = {a_names[i] for i, _ in pairs}
    output = [name for name in a_names + b_names if name not in summed]
    return _sum_of_products("tensordot", [a, b], [a_names, b_names], output)


METHODS = [matmul, mm, bmm, mv, dot, outer, ger, addmm, baddbmm]
OPERATORS = {"matmul": matmul}
__all__ = [
    "addmm", "baddbmm", "bmm", "dot", "einsum", "ger", "linear", "linear_relu", "matmul", "mm", "mv", "outer", "tensordot",
]  # fmt: skip
