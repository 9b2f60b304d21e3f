"""Looking inside a running model: what its layers pass forward, what comes back, and pictures of both.

Drawing needs matplotlib (``pip install "glassgrad[viz]"``), which is imported when a picture is asked for.
"""

from . import theory
from .draw import draw
from .page import Page
from .record import Layer, Recorder
from .step_through import step_through
from .thermometer import per_layer, thermometer
from .trace import Step, trace

__all__ = ["Layer", "Page", "Recorder", "Step", "draw", "per_layer", "step_through", "theory", "thermometer", "trace"]
