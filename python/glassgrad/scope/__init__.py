"""Looking inside a running model: what its layers pass forward, what comes back, and pictures of both.

Drawing needs matplotlib (``pip install "glassgrad[viz]"``), which is imported when a picture is asked for.
"""

from . import theory
from .boundary import Boundary, boundary
from .doctor import CODES, Finding, Proof, Report, doctor
from .draw import draw
from .explain import Factor, Receipt, explain
from .forecast import Forecast, Level, forecast
from .landscape import Landscape, landscape
from .page import Page
from .profile import Event, Kept, Profile, kept, profile
from .record import Layer, Record, Recorder, record
from .step_through import step_through
from .thermometer import per_layer, thermometer
from .trace import Step, trace
from .twin import Divergence, Twin, twin

__all__ = [
    "Boundary",
    "CODES",
    "Divergence",
    "Factor",
    "Event",
    "Finding",
    "Forecast",
    "Kept",
    "Landscape",
    "Layer",
    "Level",
    "Page",
    "Profile",
    "Proof",
    "Receipt",
    "Record",
    "Recorder",
    "Report",
    "Step",
    "Twin",
    "boundary",
    "doctor",
    "draw",
    "explain",
    "forecast",
    "kept",
    "landscape",
    "per_layer",
    "profile",
    "record",
    "step_through",
    "theory",
    "thermometer",
    "trace",
    "twin",
]
