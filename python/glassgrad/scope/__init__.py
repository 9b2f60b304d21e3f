"""Looking inside a running model: what its layers pass forward, what comes back, and pictures of both.

Drawing needs matplotlib (``pip install "glassgrad[viz]"``), which is imported when a picture is asked for.
"""

from . import theory
from .doctor import CODES, Finding, Proof, Report, doctor
from .draw import draw
from .forecast import Forecast, Level, forecast
from .page import Page
from .record import Layer, Recorder
from .thermometer import per_layer, thermometer
from .trace import Step, trace

__all__ = [
    "CODES",
    "Finding",
    "Forecast",
    "Layer",
    "Level",
    "Page",
    "Proof",
    "Recorder",
    "Report",
    "Step",
    "doctor",
    "draw",
    "forecast",
    "per_layer",
    "theory",
    "thermometer",
    "trace",
]
