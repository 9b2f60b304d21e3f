"""Looking inside a running model: what its layers pass forward, what comes back, and pictures of both.

Drawing needs matplotlib (``pip install "glassgrad[viz]"``), which is imported when a picture is asked for.
"""

from . import theory
from .doctor import CODES, Finding, Proof, Report, doctor
from .draw import draw
from .explain import Factor, Receipt, explain
from .forecast import Forecast, Level, forecast
from .page import Page
from .record import Layer, Recorder
from .step_through import step_through
from .thermometer import per_layer, thermometer
from .trace import Step, trace
from .twin import Divergence, Twin, twin

__all__ = [
    "CODES",
    "Divergence",
    "Factor",
    "Finding",
    "Forecast",
    "Layer",
    "Level",
    "Page",
    "Proof",
    "Receipt",
    "Recorder",
    "Report",
    "Step",
    "Twin",
    "doctor",
    "draw",
    "explain",
    "forecast",
    "per_layer",
    "step_through",
    "theory",
    "thermometer",
    "trace",
    "twin",
]
