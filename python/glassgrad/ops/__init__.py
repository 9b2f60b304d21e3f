"""Every op: one file per family, maths and reference and derivative and samples together."""

from __future__ import annotations

from . import elementwise, movement

METHODS = [*elementwise.METHODS, elementwise.where, *movement.METHODS]
