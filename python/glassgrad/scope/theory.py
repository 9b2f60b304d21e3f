"""What the papers predict, in a few lines each and with the papers' own symbols. NumPy only: no training happens here.

Almost everything below is one question asked of different layers: *passing one layer, by what factor does a squared
number grow?* Above 1 it explodes with depth, below 1 it vanishes. Factors are of squares; take the root for a norm.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from ..errors import ArgumentError

Function = Callable[[np.ndarray], np.ndarray]


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


# name: (phi, its derivative phi')
PHI: dict[str, tuple[Function, Function]] = {
    "linear": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "sigmoid": (_sigmoid, lambda z: _sigmoid(z) * _sigmoid(-z)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
}


def _phi(name: str) -> tuple[Function, Function]:
    if name not in PHI:
        raise ArgumentError(f"phi: got {name!r}; expected one of {', '.join(PHI)}.")
    return PHI[name]


@functools.cache
def _nodes() -> tuple[np.ndarray, np.ndarray]:
    # Gauss-Legendre on each side of 0, since ReLU has its kink there. The usual Gauss-Hermite rule, which must step over
    # the kink and spreads its nodes too thin for a steep tanh, is wrong by 1 part in 500 and 1 in 200 at 96 nodes; this
    # one by less than 1 in 10^10. Beyond 12 the normal density is below 1e-31.
    x, weights = np.polynomial.legendre.leggauss(96)
    right = 6 * (x + 1)
    z = np.concatenate([-right[::-1], right])
    density = 6 * np.concatenate([weights[::-1], weights]) * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return z, density


def gaussian_mean(f: Function) -> float:
    """E[f(z)], z standard normal, by Gauss quadrature.

    >>> round(gaussian_mean(lambda z: z**4), 9), round(gaussian_mean(lambda z: np.maximum(z, 0) ** 2), 9)
    (3.0, 0.5)
    """
    z, density = _nodes()
    return float(density @ f(z))


def q_star(sigma_w: float, phi: str, sigma_b: float = 0.0) -> float:
    """The variance q* at which pre-activations settle with depth (Poole et al. 2016).

    The fixed point of q = sigma_w^2 E[phi(sqrt(q) z)^2] + sigma_b^2, for weights of variance sigma_w^2 / n and biases of
    variance sigma_b^2. ReLU and the linear layer only scale q, so every q serves and 1 is returned.

    >>> round(q_star(2.0, "tanh", 0.3), 3)
    2.254
    """
    f, _ = _phi(phi)
    q = 1.0
    if phi in ("relu", "linear"):
        return q
    z, density = _nodes()
    for _ in range(10_000):
        before, q = q, float(sigma_w**2 * (density @ f(math.sqrt(q) * z) ** 2) + sigma_b**2)
        if abs(q - before) < 1e-12:
            break
    return q


def chi_1(sigma_w: float, phi: str, sigma_b: float = 0.0) -> float:
    """Growth of the squared gradient per layer: chi_1 = sigma_w^2 E[phi'(sqrt(q*) z)^2] (Schoenholz et al. 2017).

    chi_1 = 1 is the edge of chaos: only there do gradients keep their size through any number of layers.

    >>> [round(chi_1(s, "tanh", 0.3), 3) for s in (0.8, 2.0, 3.0)]
    [0.496, 1.327, 1.844]

    He's initialisation is sigma_w^2 = 2, Xavier's sigma_w^2 = 1; through sigmoids the latter leaves 6 % per layer.

    >>> [round(chi_1(s, phi), 3) for s, phi in ((math.sqrt(2), "relu"), (1.0, "relu"), (1.0, "sigmoid"))]
    [1.0, 0.5, 0.056]
    """
    _, derivative = _phi(phi)
    q = q_star(sigma_w, phi, sigma_b)
    return sigma_w**2 * gaussian_mean(lambda z: derivative(math.sqrt(q) * z) ** 2)


def xavier_over_he(layers: int) -> float:
    """Size of the signal with Xavier's initialisation, as a part of that with He's, after so many ReLU layers.

    ReLU halves the mean square. He's variance 2/n makes up for it, Xavier's 1/n does not: 2^(-L/2) (He et al. 2015).

    >>> 1 / xavier_over_he(30)
    32768.0
    """
    return 2.0 ** (-layers / 2)


def glorot_backward_ratio(n: int, variance: float) -> float:
    """Growth of the gradient's variance through one linear layer of width n: n Var[w] (Glorot & Bengio 2010, eq. 6).

    The standard initialisation of the time, U(-1/sqrt(n), 1/sqrt(n)), has Var[w] = 1/(3n): a third is left per layer.

    >>> round(glorot_backward_ratio(512, 1 / (3 * 512)), 4)
    0.3333
    """
    return n * variance


def J(c: float) -> float:
    """E[relu(u) relu(v)] over E[relu(u)^2], for standard normal u, v of correlation c.

    >>> J(1.0), round(J(0.0), 4), J(-1.0)
    (1.0, 0.3183, 0.0)
    """
    return (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / math.pi


def J_prime(c: float) -> float:
    """The derivative of J: (pi - arccos c) / pi."""
    return (math.pi - math.acos(c)) / math.pi


def batchnorm_growth(B: int, phi: str = "relu") -> float:
    """Growth of the squared gradient per layer of batch normalisation and phi, batch size B, at initialisation.

    For ReLU, with c = -1/(B-1), r(B) = [J'(c) + B - 1] / [(B-3)(1 - J(c))] - 1/(B-3); without any nonlinearity
    (B-2)/(B-3) (Yang et al. 2019). It does not depend on the weights' size at all.

    >>> [round(batchnorm_growth(B), 4) for B in (8, 64)]
    [1.7882, 1.4931]
    >>> batchnorm_growth(8, "linear")
    1.2
    """
    if B < 4:
        raise ArgumentError(
            f"batchnorm_growth: got B={B}; expected at least 4, below which the variance does not exist."
        )
    if phi == "linear":
        return (B - 2) / (B - 3)
    if phi != "relu":
        raise ArgumentError(
            f"batchnorm_growth: got phi={phi!r}; expected 'relu' or 'linear'. batchnorm_limit takes any."
        )
    c = -1 / (B - 1)
    return (J_prime(c) + B - 1) / ((B - 3) * (1 - J(c))) - 1 / (B - 3)


def batchnorm_limit(phi: str) -> float:
    """The same for a large batch and any phi: E[phi'(z)^2] / Var[phi(z)].

    A large batch makes every pre-activation standard normal; the variance below it is what normalisation divides by.
    Gauss's Poincare inequality says Var[phi] <= E[phi'^2]: with batch normalisation gradients never vanish with depth,
    and grow for every phi but a straight line. For ReLU it is pi / (pi - 1), for sigmoid hardly more than 1.

    >>> round(batchnorm_limit("relu"), 3), round(batchnorm_limit("sigmoid"), 3)
    (1.467, 1.034)
    """
    f, derivative = _phi(phi)
    mean = gaussian_mean(f)
    return gaussian_mean(lambda z: derivative(z) ** 2) / gaussian_mean(lambda z: (f(z) - mean) ** 2)
