"""Every op: one file per family, maths and reference and derivative and samples together."""

from __future__ import annotations

from . import attention, conv, dropout, elementwise, index, loss, matmul, movement, norm, pool, reduce, rnn, softmax

# Each stands below those that follow: rules call upwards through Tensor methods.
MODULES = (elementwise, movement, reduce, index, matmul, softmax, norm, conv, pool, dropout, attention, loss, rnn)


def _where(input, condition, other):
    """input where condition, else other."""
    return elementwise.where(condition, input, other)


_where.__name__ = _where.__qualname__ = (
    "where"  # the function's first argument is the condition, the method's the input
)

# What tensor._attach gives the Tensor class.
METHODS = [*[method for module in MODULES for method in module.METHODS], _where]
INPLACE = [*elementwise.INPLACE, *movement.INPLACE, *index.INPLACE]  # f becomes f_
OPERATORS: dict = {**matmul.OPERATORS}  # {"matmul": f} becomes __matmul__ and __rmatmul__
DUNDERS: dict = {**index.DUNDERS}  # {"__getitem__": f}
PROPERTIES: dict = {**movement.PROPERTIES}  # {"T": f}
