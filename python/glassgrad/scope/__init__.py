"""Looking inside a running model: what its layers pass forward, what comes back, and pictures of both.

Drawing needs matplotlib (``pip install "glassgrad[viz]"``), which is imported when a picture is asked for.
"""

from . import theory
from .draw import Step, draw, draw_svg, trace
from .forecast import Forecast, Level, forecast
from .page import Page
from .record import Layer, Recorder
from .thermometer import per_layer, thermometer

__all__ = [
    "Forecast",
    "Layer",
    "Level",
    "Page",
    "Recorder",
    "Step",
    "draw",
    "draw_svg",
    "forecast",
    "per_layer",
    "theory",
    "thermometer",
    "trace",
]
