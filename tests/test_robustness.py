"""What must never crash, hang or give garbage: forks, threads, Ctrl-C, other libraries in the process."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import backends

native = pytest.mark.skipif("cpp" not in backends.BACKENDS, reason="the native module was not built")


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_a_forked_child_computes():
    x = gg.ones(600, 600)
    (x @ x).sum()  # the pool is running
    pid = os.fork()
    if pid == 0:
        good = (x @ x).sum().item() == 600.0**3
        os._exit(0 if good else 1)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the forked child hangs")


def test_threads_get_the_same_numbers():
    rng = np.random.default_rng(0)
    a, b = (gg.from_numpy(rng.standard_normal((300, 300)).astype(np.float32)) for _ in range(2))
    expected = (a @ b).softmax(-1).data
    wrong = []

    def work():
        for _ in range(20):
            if not np.array_equal((a @ b).softmax(-1).data, expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@native
def test_results_do_not_depend_on_the_number_of_threads():
    code = """
        import hashlib, glassgrad as gg
        from glassgrad import backends, nn
        backends.get("cpp").module.set_num_threads({n})
        gg.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 26 * 26, 10))
        x = gg.randn(32, 3, 28, 28)
        loss = nn.functional.cross_entropy(model(x), gg.arange(32) % 10)
        loss.backward()
        print(hashlib.sha256(b"".join(p.grad.data.tobytes() for p in model.parameters())).hexdigest(), loss.item())
    """
    outputs = {python(code.replace("{n}", str(n))).stdout for n in (1, 2, 4)}
    assert len(outputs) == 1
    assert len(outputs.pop()) > 60


@native
def test_ctrl_c_stops_a_long_kernel():
    code = """
        import os, signal, threading, time
        import glassgrad as gg
        a = gg.ones(6000, 6000)
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        start = time.monotonic()
        try:
            for _ in range(50):
                a @ a
        except KeyboardInterrupt:
            print("stopped", time.monotonic() - start < 30)
        print("usable", (gg.ones(2) + 1).tolist())
    """
    assert python(code).stdout.split() == ["stopped", "True", "usable", "[2.0,", "2.0]"]


@pytest.mark.parametrize("other", ["torch", "sklearn.linear_model", "scipy.linalg"])
def test_others_in_the_process_do_no_harm(other):
    pytest.importorskip(other)
    code = f"""
        import {other}
        import glassgrad as gg
        a = gg.ones(500, 500)
        print((a @ a).sum().item())
    """
    assert float(python(code).stdout) == 500.0**3


# Four thread pools in one process: ours, PyTorch's (OpenMP), NumPy's and scikit-learn's (OpenBLAS, OpenMP).
EVERYONE = """
    import os, threading
    import numpy as np
    import torch
    from sklearn.cluster import KMeans
    import glassgrad as gg

    torch.set_num_threads(2)
    a = np.random.default_rng(0).standard_normal((400, 400)).astype(np.float32)
    x, t = gg.from_numpy(a), torch.from_numpy(a)
    expected = a.astype(np.float64) @ a

    def ours():
        return np.abs((x @ x).numpy() - expected).max() < 1e-2
    def torchs():
        return np.abs((t @ t).numpy() - expected).max() < 1e-2
    def numpys():
        return np.abs(a @ a - expected).max() < 1e-2
    def sklearns():
        return KMeans(3, n_init=1, max_iter=5, random_state=0).fit(a).labels_.shape == (400,)
    def everyone():
        return all(f() for _ in range(3) for f in (ours, torchs, numpys, sklearns, ours))
"""


def says_good(code):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    result = python(textwrap.dedent(EVERYONE) + textwrap.dedent(code))
    assert result.stdout.split() == ["good"], result.stderr


def test_everyone_computes_in_turn():
    says_good("assert everyone(); print('good')")


def test_everyone_computes_at_once():
    says_good(
        """
        right = []
        def work(f):
            for _ in range(10):
                right.append(f())
        workers = [threading.Thread(target=work, args=(f,)) for f in (ours, torchs, numpys, sklearns, ours)]
        for w in workers: w.start()
        for w in workers: w.join()
        assert right == [True] * 50
        print("good")
        """
    )


def test_a_forked_child_computes_beside_torch():
    # Ours alone in the child: after a fork PyTorch's own OpenMP pool is what hangs.
    says_good(
        """
        assert everyone()
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if ours() and numpys() else 1)
            assert os.waitpid(pid, 0)[1] == 0
        assert everyone()
        print("good")
        """
    )


def test_workers_of_a_data_loader_compute():
    """multiprocessing with fork, as a data loader does it, after our pool has run; and the parent goes on."""
    code = """
        import multiprocessing
        import glassgrad as gg

        def batch(i):
            x = gg.ones(500, 500) * i
            return (x @ x).softmax(-1).sum().item()

        expected = [batch(i) for i in range(8)]
        good = True
        with multiprocessing.get_context("fork").Pool(4) as pool:
            for epoch in range(3):
                good &= pool.map(batch, range(8)) == expected
                good &= batch(2) == expected[2]
        print(good)
    """
    result = python(code)
    assert result.stdout.strip() == "True", result.stderr


@native
def test_an_unknown_instruction_set_says_which_there_are():
    result = python("import glassgrad", GLASSGRAD_ISA="avx1024")
    assert "GLASSGRAD_ISA: got 'avx1024'; expected one this CPU runs" in result.stderr


def test_import_is_fast_and_pulls_in_numpy_alone():
    code = """
        import sys, glassgrad
        print([m for m in ("matplotlib", "sklearn", "tqdm", "torch", "scipy") if m in sys.modules])
    """
    assert python(code).stdout.strip() == "[]"


@native
def test_a_kernel_gives_back_the_gil():
    a = gg.ones(2500, 2500)
    ticks = []
    stop = threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.002)

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.monotonic()
    a @ a
    end = time.monotonic()
    stop.set()
    thread.join()
    assert sum(start < t < end for t in ticks) >= 3
