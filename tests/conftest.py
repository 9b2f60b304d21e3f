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


# What has nothing to say about a kernel on another instruction set: run once, on the best one.
ABOVE_KERNELS = {
    "browser",
    "scope",
    "test_bench.py",
    "test_cli.py",
    "test_demo.py",
    "test_docs.py",
    "test_tutorials.py",
}


def pytest_collection_modifyitems(items):
    for item in items:
        if ABOVE_KERNELS & set(item.path.relative_to(os.path.dirname(__file__)).parts):
            item.add_marker("above_kernels")


def pytest_configure(config):
    if os.environ.get("GLASSGRAD_REQUIRE_ORACLE"):
        importlib.import_module("torch")  # here a skipped oracle test would be a hole in the net
