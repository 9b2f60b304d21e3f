"""Looking inside a running model: what its layers pass forward, what comes back, and pictures of both.

Drawing needs matplotlib (``pip install "glassgrad[viz]"``), which is imported when a picture is asked for.
"""

from . import theory
from .draw import draw
from .forecast import Forecast, Level, forecast
from .page import Page
from .record import Layer, Recorder
from .thermometer import per_layer, thermometer
from .trace import Step, trace

__all__ = [
    "Forecast",
    "Layer",
    "Level",
    "Page",
    "Recorder",
    "Step",
    "draw",
    "forecast",
    "per_layer",
    "theory",
    "thermometer",
    "trace",
]
