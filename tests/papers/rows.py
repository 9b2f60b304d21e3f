"""The published numbers that the tutorials must reproduce, written out here once more, independently of the tutorials.

A tutorial claims a number with ``lesson.claim(..., row=N)``. ``find`` looks for the claim whose theory is the number below
and holds what was measured against the tolerance below, whatever tolerance the tutorial allows itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """``compare`` is "=" (measured / number within ``tolerance`` of 1), "<" or ">"."""

    row: int
    tutorial: str
    what: str
    number: float
    tolerance: float = 0.0
    compare: str = "="

    def fits(self, measured: float) -> bool:
        if self.compare == "=":
            return abs(measured / self.number - 1) <= self.tolerance
        return measured < self.number if self.compare == "<" else measured > self.number

    def is_claimed_by(self, claim) -> bool:
        """Whether the claim is about this number: the same to 1 %, which is how papers round, or a stricter bound."""
        if claim.row != self.row or claim.compare != self.compare:
            return False
        if self.compare == "=":
            return math.isclose(claim.theory, self.number, rel_tol=0.01)
        return claim.theory <= 1.001 * self.number if self.compare == "<" else claim.theory >= 0.999 * self.number


def _batch_norm_growth(B: int) -> float:
    """r(B) of Yang et al. 2019 for ReLU: written here again, so that an error in ``scope.theory`` is seen."""
    c = -1 / (B - 1)
    angle = math.acos(c)
    J, slope = (math.sin(angle) + (math.pi - angle) * c) / math.pi, 1 - angle / math.pi
    return (slope + B - 1) / ((B - 3) * (1 - J)) - 1 / (B - 3)


ROWS = [
    # 1 Yang et al. 2019, A mean field theory of batch normalization: squared gradient norm, per layer
    Published(1, "08", "ReLU and BN, B = 8", _batch_norm_growth(8), 0.025),
    Published(1, "08", "ReLU and BN, B = 64", _batch_norm_growth(64), 0.025),
    Published(1, "08", "linear and BN, B = 8", 6 / 5, 0.025),
    # 2 the same: first over last weight-gradient norm, per layer
    Published(2, "08", "weight gradients explode with BN", 1.2219, 0.01),
    # 3 Glorot & Bengio 2010; 0.05 in absolute terms
    Published(3, "05", "linear, standard initialisation: variance per layer back", 1 / 3, 0.05 / (1 / 3)),
    Published(3, "07", "tanh, standard initialisation: mean ratio between layers", 0.5, 0.05 / 0.5),
    Published(3, "07", "tanh, normalised initialisation: mean ratio between layers", 0.8, 0.05 / 0.8),
    Published(3, "07", "weight-gradient variance, layer against layer", 1.0, 0.05),
    # 4 He et al. 2015
    Published(4, "07", "Xavier's signal over He's after 30 ReLU layers", 2.0**-15, 1e-3),
    Published(4, "07", "Xavier stalls at chance", math.log(10), 0.005 / math.log(10)),
    Published(4, "07", "He learns", 1.5, compare="<"),
    # 5 Ioffe & Szegedy 2015
    Published(5, "08", "8 sigmoid layers without BN stay near chance", 2.25, compare=">"),
    Published(5, "08", "with BN they learn", 0.05, compare="<"),
    # 6 He et al. 2016, residual networks
    Published(6, "09", "plain: 56 layers end worse than 20, times", 5.0, compare=">"),
    Published(6, "09", "56 layers: plain ends worse than residual, times", 5.0, compare=">"),
    # 7 Zhang et al. 2019, Fixup
    Published(7, "09", "log2 of the variance, per unnormalised residual block", 1.0, 0.05),
    # 8 De & Smith 2020
    Published(8, "09", "variance after block 50, BN in the branch", 51.0, 0.05),
    # 9 Saxe et al. 2013
    Published(9, "07", "largest distance from the closed form u(t)", 0.02, compare="<"),
    Published(9, "07", "median singular value of 100 orthogonal factors", 1.0, 0.02),
    # 10 Pascanu et al. 2013
    Published(10, "06", "largest gradient on the wall", 1754.0, 0.05),
    Published(10, "06", "w of the wall", 4.94, 0.05),
    Published(10, "06", "b of the wall", -2.575, 0.05),
    Published(10, "06", "median gradient", 0.017, 0.05),
    # 11 Bengio et al. 1994: slope of tanh(w x) at its attractor
    Published(11, "05", "w = 1.1", 0.822, 0.01),
    Published(11, "05", "w = 1.25", 0.619, 0.01),
    Published(11, "05", "w = 1.5", 0.394, 0.01),
    Published(11, "05", "w = 2", 0.166, 0.01),
    # 12 Poole et al. 2016, Schoenholz et al. 2017: chi_1 of tanh, sigma_b = 0.3
    Published(12, "05", "sigma_w = 0.8", 0.4957, 0.02),
    Published(12, "05", "sigma_w = 2", 1.3271, 0.02),
    Published(12, "05", "sigma_w = 3", 1.8440, 0.02),
    # 13 Santurkar et al. 2018: range of the loss along the gradient
    Published(13, "08", "without BN over with, times", 10.0, compare=">"),
]


def of(tutorial: str) -> list[Published]:
    return [row for row in ROWS if row.tutorial == tutorial]


def find(published: Published, claims: Iterable) -> list:
    """The claims about this published number."""
    return [claim for claim in claims if published.is_claimed_by(claim)]
