"""What all pictures share: matplotlib, imported when a picture is asked for, and the style of the house."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..errors import ArgumentError

# Okabe and Ito's colours, told apart by colour-blind readers; the markers repeat what the colours say.
COLD, GOOD, HOT = "#0072b2", "#009e73", "#d55e00"
INK, GREY, LIGHT = "#1b1f24", "#5d6673", "#c9ced6"
STYLE = Path(__file__).parent.parent / "demo" / "glassgrad.mplstyle"


def pyplot_for(what: str):
    """``matplotlib.pyplot``, or an error that says how to get it.

    Raises:
        ArgumentError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ArgumentError(f'{what}: got no matplotlib ({error}); expected it. pip install "glassgrad[viz]"') from None
    return pyplot


@contextlib.contextmanager
def styled(what: str):
    """``with styled("record") as pyplot:`` figures made inside have the style of the house."""
    pyplot = pyplot_for(what)
    with pyplot.rc_context(fname=str(STYLE)):
        yield pyplot
