"""Looking inside a running model: what its layers pass forward, what comes back, and pictures of both.

Drawing needs matplotlib (``pip install "glassgrad[viz]"``), which is imported when a picture is asked for.
"""

from . import theory
from .draw import Step, draw, draw_svg, trace
from .explain import Factor, Receipt, explain
from .forecast import Forecast, Level, forecast
from .page import Page
from .record import Layer, Recorder
from .thermometer import per_layer, thermometer
from .twin import Divergence, Twin, twin

__all__ = [
    "Divergence",
    "Factor",
    "Forecast",
    "Layer",
    "Level",
    "Page",
    "Receipt",
    "Recorder",
    "Step",
    "Twin",
    "draw",
    "draw_svg",
    "explain",
    "forecast",
    "per_layer",
    "theory",
    "thermometer",
    "trace",
    "twin",
]
