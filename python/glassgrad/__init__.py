"""glassgrad: an autograd engine made of glass."""

from . import autograd, errors, ops
from . import tensor as _tensor_module
from .autograd import (
    detect_anomaly,
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)  # fmt: skip
from .backends import kernel, use_backend
from .creation import *
from .dtypes import bool_ as bool
from .dtypes import (
    float16,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    result_type,
    set_default_dtype,
    uint8,
)  # fmt: skip
from .gradcheck import gradcheck, gradgradcheck
from .ops.attention import *
from .ops.conv import *
from .ops.dropout import *
from .ops.elementwise import *
from .ops.index import *
from .ops.matmul import *
from .ops.movement import *
from .ops.norm import *
from .ops.pool import *
from .ops.reduce import *
from .ops.softmax import *
from .random import *
from .tensor import Tensor

_tensor_module._attach()

from . import data, function, metrics, nn, optim, utils  # noqa: E402  (written with Tensor's methods, which exist from here on)

__version__ = "0.1.0"
