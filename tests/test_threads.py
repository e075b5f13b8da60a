"""The threads that C kernels run on, and the Python threads and processes that call them."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from flambeau import kernels, nn

cpu = pytest.importorskip("flambeau.kernels.cpu")

COUNT = """
import os, threading, time
import numpy as np
from flambeau import kernels
cpu = kernels.package("cpu")
x = np.ones(1 << 20, "f4")
def tasks():
    return len(os.listdir("/proc/self/task"))
def new_threads():
    before = tasks(); cpu.relu(x); return tasks() - before
def elsewhere(work):
    found, before = [], tasks()
    thread = threading.Thread(target=lambda: found.append(work())); thread.start(); thread.join()
    while tasks() > before:  # they end a moment after join
        time.sleep(0.001)
    return found[0]
"""
linux = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux's /proc")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(autouse=True)
def number():
    """Restores the number of threads."""
    before = kernels.get_num_threads()
    yield before
    kernels.set_num_threads(before)


def run(script, **environment):
    """Run a script in a process of its own; what it prints, in words."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def network():
    """A small network of every kind of kernel, with its input."""
    nn.seed(1)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.LocalResponseNorm(3),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 12 * 12, 10),
        nn.LogSoftmax(1),
    )
    return net, np.random.default_rng(0).normal(size=(4, 3, 48, 48)).astype("f4")


def step(net, x):
    """The results of one training step."""
    with_dy = net(x)
    net.zero_grad()
    dx = net.backward(x, with_dy)
    return [with_dy, dx, *(g.copy() for g in net.gradients())]


def same(a, b):
    return all((u == v).all() for u, v in zip(a, b, strict=True))


def test_the_number_that_was_set_is_the_number_there_is():
    for n in (1, 3, 2):
        kernels.set_num_threads(n)
        assert kernels.get_num_threads() == n


@pytest.mark.parametrize("n", [0, -1, 2.0, "2", None, True, 1 << 40])
def test_numbers_that_make_no_sense_are_refused(n, number):
    with pytest.raises(ValueError, match=r"set_num_threads\(n\): n must be an int from 1 .*— got"):
        kernels.set_num_threads(n)
    assert kernels.get_num_threads() == number


@pytest.mark.parametrize("n", ["1", "3"])
def test_the_number_at_first_is_that_of_the_environment(n):
    script = "from flambeau import kernels; print(kernels.get_num_threads())"
    assert run(script, OMP_NUM_THREADS=n) == [n]


@linux
@pytest.mark.parametrize("n", [1, 3])
def test_the_number_holds_in_every_python_thread(n):
    script = f"{COUNT}\nkernels.set_num_threads({n}); print(elsewhere(new_threads), new_threads())"
    assert run(script, OMP_NUM_THREADS="2") == [str(n - 1)] * 2


@linux
def test_a_number_set_in_one_python_thread_holds_in_those_that_have_computed_before():
    script = (
        COUNT + "cpu.relu(x); elsewhere(lambda: kernels.set_num_threads(4)); print(new_threads())"
    )
    assert run(script, OMP_NUM_THREADS="1") == ["3"]


def test_several_python_threads_compute_what_one_does():
    kernels.set_num_threads(2)
    net, x = network()
    expected = step(net, x)
    results = {}

    def work(i, twin):
        results[i] = [step(twin, x) for _ in range(5)]

    with kernels.use("cpu"):
        twins = [network()[0] for _ in range(4)]
        threads = [threading.Thread(target=work, args=item) for item in enumerate(twins)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [0, 1, 2, 3]
    assert all(same(got, expected) for steps in results.values() for got in steps)


def test_the_number_may_change_while_another_thread_computes():
    net, x = network()
    with kernels.use("cpu"):
        expected = step(net, x)
        results = []
        worker = threading.Thread(target=lambda: results.extend(step(net, x) for _ in range(30)))
        worker.start()
        n = 0
        while worker.is_alive():
            kernels.set_num_threads(1 + n % 4)
            n += 1
        worker.join()
    assert len(results) == 30
    assert all(same(got, expected) for got in results)


@forks
@pytest.mark.parametrize("where", ["the main thread", "another thread"])
def test_a_child_computes_after_its_parent_has(where):
    call = "go()" if where == "the main thread" else "elsewhere(go)"
    assert run(
        COUNT + "def go():\n"
        "    expected = cpu.tanh(x)\n"
        "    for _ in range(3):\n"
        "        child = os.fork()\n"
        "        if child == 0: os._exit(not (cpu.tanh(x) == expected).all())\n"
        "        assert os.waitpid(child, 0)[1] == 0\n"
        "        assert (cpu.tanh(x) == expected).all()\n"
        f"{call}; print('done')",
        OMP_NUM_THREADS="2",
    ) == ["done"]


@forks
@linux
def test_a_child_has_as_many_threads_as_its_parent():
    assert run(
        COUNT + "kernels.set_num_threads(3); cpu.relu(x)\n"
        "read, write = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.write(write, b'%d %d' % (new_threads(), kernels.get_num_threads())); os._exit(0)\n"
        "os.wait(); print(os.read(read, 100).decode(), new_threads())",
        OMP_NUM_THREADS="1",
    ) == ["2", "3", "2"]


@forks
def test_a_pool_of_forked_processes_computes():
    assert run(
        COUNT + "import multiprocessing\n"
        "cpu.relu(x)\n"
        "def work(i): return float(cpu.relu(x * i).sum())\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    print(pool.map(work, [1, 2, 3]) == [float(cpu.relu(x * i).sum()) for i in (1, 2, 3)])",
        OMP_NUM_THREADS="2",
    ) == ["True"]


@forks
def test_a_child_may_be_forked_while_other_threads_compute():
    assert run(
        COUNT + "stop = threading.Event()\n"
        "def busy():\n"
        "    while not stop.is_set(): cpu.relu(x)\n"
        "threads = [threading.Thread(target=busy) for _ in range(2)]\n"
        "for t in threads: t.start()\n"
        "for i in range(20):\n"
        "    cpu.relu(x)\n"
        "    child = os.fork()\n"
        "    if child == 0: os._exit(not (cpu.relu(x) == 1).all())\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "stop.set()\n"
        "for t in threads: t.join()\n"
        "print('done')",
        OMP_NUM_THREADS="2",
    ) == ["done"]


def test_the_c_kernels_keep_no_state():
    variable = re.compile(r"^\s*(static(?!.*\bconst\b)[^(]*[;=]|[a-z_]\w* \*?\w+ *(=.*)?;$)")
    at_top = re.compile(r"^(?!typedef|enum|struct|\}|return)[a-z]\w* [^(]*;")
    folder = Path(cpu.__file__).parent
    allowed = {"blocks.h", "threads.h"}  # memory and the number of threads, behind a lock
    sources = [p for p in sorted(folder.glob("*.[ch]")) if p.name not in allowed | {"_native.c"}]
    assert len(sources) > 10
    for path in sources:
        for line in path.read_text("utf-8").splitlines():
            kept = variable.match(line) if "static" in line else at_top.match(line)
            assert not kept, f"{path.name}: {line}"
