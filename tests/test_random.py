"""The generator: known answers, distributions, states, threads, and refusals."""

import copy
import pickle
import threading

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import random
from glassgrad.errors import ArgumentError, DTypeError, ShapeError


def number(*words):
    return sum(word << 32 * i for i, word in enumerate(words))


# Random123's kat_vectors: counter, key, answer.
KNOWN = [
    (0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (2**128 - 1, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        number(0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        number(0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter, key, answer):
    assert [f"{word:08x}" for word in random.philox4x32(4, seed=key, offset=counter)] == answer.split()


def test_any_part_of_the_stream_can_be_computed_alone():
    whole = random.philox4x32(100_003, seed=5, offset=2**64 - 9)  # the counter carries into its upper half
    np.testing.assert_array_equal(random.philox4x32(20, seed=5, offset=2**64 - 9 + 9000), whole[36_000:36_020])
    assert len(np.unique(whole)) > 100_000


def test_the_same_bits_on_every_backend():
    results = []
    for name in gg.backends.BACKENDS:
        with gg.use_backend(name):
            results.append(gg.Generator().manual_seed(3).bits(10_001))
    for bits in results:
        np.testing.assert_array_equal(bits, random.philox4x32(10_001, seed=3, offset=0))


def test_a_seed_gives_the_same_numbers():
    def draw():
        return gg.rand(3).tolist(), gg.randn(4).tolist(), gg.randint(0, 9, (5,)).tolist(), gg.randperm(6).tolist()

    gg.manual_seed(7)
    first = draw()
    assert draw() != first
    assert gg.manual_seed(7) is gg.default_generator
    assert draw() == first
    assert gg.initial_seed() == 7
    gg.manual_seed(-1)
    assert gg.initial_seed() == 2**64 - 1
    assert gg.seed() != gg.seed()


@pytest.mark.parametrize(("dtype", "step"), [(gg.float32, 2.0**-24), (gg.float64, 2.0**-53), (gg.float16, 2.0**-11)])
def test_uniforms_are_multiples_of_their_step_and_never_1(dtype, step):
    u = gg.Generator().manual_seed(0).uniform((200_000,), dtype)
    assert u.dtype == dtype
    assert 0 <= u.min()
    assert u.max() <= 1 - step
    wide = u.astype(np.float64)
    np.testing.assert_array_equal(wide / step, np.rint(wide / step))
    assert abs(wide.mean() - 0.5) < 4 / np.sqrt(12 * u.size)
    counts, _ = np.histogram(wide, 64, (0, 1))
    assert ((counts - u.size / 64) ** 2 / (u.size / 64)).sum() < 120  # chi squared with 63 degrees: 103 at 0.1 %


class AllOnes(gg.Generator):
    def bits(self, n):
        return np.full(n, 2**32 - 1, np.uint32)


class AllZeros(gg.Generator):
    def bits(self, n):
        return np.zeros(n, np.uint32)


@pytest.mark.parametrize("dtype", [gg.float16, gg.float32, gg.float64])
def test_the_ends_of_the_range(dtype):
    assert (AllOnes().uniform((5,), dtype) < 1).all()
    assert (AllZeros().uniform((5,), dtype) == 0).all()
    assert np.isfinite(AllZeros().normal((5,), dtype)).all()
    assert np.isfinite(AllOnes().normal((5,), dtype)).all()


@pytest.mark.parametrize("dtype", [gg.float32, gg.float64])
def test_normals_have_the_moments_of_the_normal(dtype):
    z = gg.Generator().manual_seed(1).normal((500, 401), dtype).astype(np.float64)
    n = z.size
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 4 * np.sqrt(spread / n)
    assert abs((z[:, :-1] * z[:, 1:]).mean()) < 4 / np.sqrt(n)
    assert abs((np.abs(z) > 3).mean() - 0.0027) < 0.0005


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3, 4), (0, 2**32), (0, 3 * 2**30), (-(2**63), 2**63), (5, 5 + 3 * 2**61)]
)
def test_integers_cover_their_range_evenly(low, high):
    x = gg.Generator().manual_seed(2).integers(low, high, (40_000,))
    assert x.dtype == np.int64
    assert int(x.min()) >= low
    assert int(x.max()) < high
    span = high - low
    relative = (x.astype(np.float64) - low) / span
    assert abs(relative.mean() - (0.5 - 0.5 / span)) < 4 / np.sqrt(12 * x.size)
    if span > 2**31:  # without rejection a third of the range would come up twice as often
        thirds, _ = np.histogram(relative, 3, (0, 1))
        assert np.abs(thirds / x.size - 1 / 3).max() < 0.01


def test_a_permutation_holds_each_number_once():
    p = gg.Generator().manual_seed(3).permutation(1000)
    assert sorted(p.tolist()) == list(range(1000))
    assert p.tolist() != sorted(p.tolist())
    assert gg.Generator().permutation(0).tolist() == []
    orders = {tuple(gg.randperm(3).tolist()) for _ in range(200)}
    assert len(orders) == 6


def test_bernoulli():
    g = gg.Generator().manual_seed(4)
    assert abs(g.bernoulli(0.3, (100_000,)).mean() - 0.3) < 0.006
    assert g.bernoulli(1.0, (1000,)).all()
    assert not g.bernoulli(0.0, (1000,)).any()
    p = gg.tensor([0.0, 0.25, 1.0]).expand(10_000, 3)
    y = gg.bernoulli(p, generator=g)
    assert y.dtype == gg.float32
    np.testing.assert_allclose(y.mean(0).numpy(), [0, 0.25, 1], atol=0.02)
    assert gg.bernoulli(gg.zeros(4), 1.0).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("replacement", [False, True])
def test_multinomial(replacement):
    weights = gg.tensor([[0.0, 1.0, 2.0, 5.0], [3.0, 0.0, 0.0, 1.0]])
    y = gg.multinomial(weights[0].expand(20_000, 4), 1, replacement)
    assert y.shape == (20_000, 1)
    np.testing.assert_allclose(
        gg.bincount(y.flatten(), minlength=4).numpy() / 20_000, [0, 0.125, 0.25, 0.625], atol=0.02
    )
    both = gg.multinomial(weights, 2, replacement)
    assert both.dtype == gg.int64
    if not replacement:
        assert all(len(set(row)) == 2 for row in both.tolist())
        # The second of two draws: sum over firsts of p(first) p(second | first).
        pairs = gg.multinomial(weights[0].expand(20_000, 4), 2)
        second = gg.bincount(pairs[:, 1], minlength=4).numpy() / 20_000
        p = np.array([0, 0.125, 0.25, 0.625])
        expected = [sum(p[f] * p[s] / (1 - p[f]) for f in range(1, 4) if f != s) for s in range(4)]
        np.testing.assert_allclose(second, expected, atol=0.02)


def test_states_can_be_taken_copied_and_pickled():
    g = gg.Generator().manual_seed(9)
    g.uniform((7,))
    state, copies = g.get_state(), [copy.deepcopy(g), pickle.loads(pickle.dumps(g))]
    assert (state.dtype, state.shape) == (gg.uint8, (16,))
    after = g.bits(20).tolist()
    assert g.set_state(state).bits(20).tolist() == after
    for other in copies:
        assert other.bits(20).tolist() == after
    kept = gg.get_rng_state()
    x = gg.rand(3).tolist()
    gg.set_rng_state(kept)
    assert gg.rand(3).tolist() == x


def test_threads_never_get_the_same_numbers():
    g, drawn = gg.Generator().manual_seed(11), []

    def work():
        for _ in range(50):
            drawn.append(g.bits(40))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = np.sort(np.concatenate(drawn))
    np.testing.assert_array_equal(got, np.sort(random.philox4x32(50 * 8 * 40, seed=11, offset=0)))


def test_refusals_say_what_was_expected():
    g = gg.Generator()
    with pytest.raises(ArgumentError, match="Generator: device: got 'cuda'"):
        gg.Generator("cuda")
    with pytest.raises(DTypeError, match="manual_seed: seed: got 1.5"):
        gg.manual_seed(1.5)
    with pytest.raises(ArgumentError, match=r"expected -2\*\*63 <= seed"):
        gg.manual_seed(2**64)
    with pytest.raises(ArgumentError, match=r"set_state: state: got float32 \(3,\)"):
        g.set_state(gg.ones(3))
    with pytest.raises(ArgumentError, match="integers: bounds"):
        g.integers(3, 3, (2,))
    with pytest.raises(ShapeError, match="uniform: size"):
        g.uniform((-1,))
    with pytest.raises(DTypeError, match="normal: dtype: got int64"):
        g.normal((2,), gg.int64)
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ArgumentError, match="bernoulli: probability"):
            g.bernoulli(p, (2,))
        with pytest.raises(ArgumentError, match="bernoulli: probability"):
            gg.bernoulli(gg.tensor([0.5, p]))
    with pytest.raises(DTypeError, match="bernoulli: input: got int64"):
        gg.bernoulli(gg.tensor([1]))
    with pytest.raises(ArgumentError, match="finite weights >= 0"):
        gg.multinomial(gg.tensor([1.0, -1.0]), 1)
    with pytest.raises(ArgumentError, match=r"num_samples=3, 2 positive weights.*replacement=True"):
        gg.multinomial(gg.tensor([1.0, 0.0, 2.0]), 3)
    with pytest.raises(ArgumentError, match="0 positive weights"):
        gg.multinomial(gg.zeros(3), 1, replacement=True)
