"""What all tests share: the backends of this installation, and samples as tensors."""

import importlib
import os

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import backends


@pytest.fixture(params=sorted(backends.BACKENDS))
def backend(request):
    """Runs the test once per backend."""
    with gg.use_backend(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    gg.manual_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pytest_configure(config):
    if os.environ.get("GLASSGRAD_REQUIRE_ORACLE"):
        importlib.import_module("torch")  # here a skipped oracle test would be a hole in the net
