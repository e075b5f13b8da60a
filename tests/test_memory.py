"""The memory under arrays that the C kernels make."""

import copy
import gc
import os
import pickle
import random
import subprocess
import sys
import threading

import numpy as np
import pytest

from flambeau import kernels, nn

cpu = kernels.package("cpu")
memory = cpu.memory

MIB = 1 << 20


@pytest.fixture(autouse=True)
def nothing_left_over():
    """What earlier tests left behind must not be freed or used again during this one."""
    gc.collect()
    memory.trim()


def made(size, value=0):
    """An array of so many bytes from the pool, filled."""
    y = memory.empty(size, np.uint8)
    y[...] = value
    return y


def address(x):
    return x.__array_interface__["data"][0]


def run(script, **environment):
    """Run a script in a process of its own; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | environment,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u1"])
def test_arrays_are_plain_writable_and_aligned(dtype):
    for shape in [(3, 700, 500), [2, 300, 400], 300_000, (), (0, 5), (7,)]:
        y = memory.empty(shape, dtype)
        assert type(y) is np.ndarray and y.dtype == dtype
        assert y.flags.c_contiguous and y.flags.writeable and y.flags.aligned
        assert y.shape == np.empty(shape, dtype).shape
        assert y.nbytes < memory.LARGE or address(y) % 64 == 0
        y[...] = 1


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8"])
@pytest.mark.parametrize("shape", [(), (3, 5), (64, 1024), (1 << 17,), (3, 65, 129, 7)])
def test_large_zeros_start_at_a_line_of_the_caches(shape, dtype):
    found = [cpu.zeros(None, shape, np.dtype(dtype)) for _ in range(3)]
    for a in found:
        assert a.shape == shape and a.dtype == dtype and a.flags.carray and not a.any()
        assert a.nbytes < memory.LARGE or a.ctypes.data % memory.LINE == 0
    found[0][...] = 1
    assert not found[1].any() and not found[2].any()


def test_a_block_is_used_again_when_its_array_is_gone():
    y = made(3 * MIB)
    before, place = memory.stats(), address(y)
    del y
    again = made(3 * MIB)
    after = memory.stats()
    assert address(again) == place
    assert (after["hits"], after["misses"]) == (before["hits"] + 1, before["misses"])


def test_a_block_is_not_used_again_while_anything_refers_to_it():
    holders = [
        lambda y: y[1000:2000],
        lambda y: y.reshape(2, -1)[:, ::3].T[5:],
        lambda y: y.view(np.int16),
        lambda y: y.base,
        memoryview,
        lambda y: np.frombuffer(y, np.uint8, count=10, offset=99),
        lambda y: np.asarray(y.data)[10:20],
        np.from_dlpack,
        lambda y: np.lib.stride_tricks.as_strided(y, (5,), (1,)),
        lambda y: y.view(np.recarray)[3:],
    ]
    for hold in holders:
        y = made(MIB, 7)
        kept = hold(y)
        del y
        others = [made(MIB, 9) for _ in range(4)]
        assert set(bytes(kept)) == {7}
        del others


def test_joined_neighbours_serve_a_larger_request_without_new_memory():
    memory.trim()
    small = [made(size * MIB) for size in (1, 2, 3, 2)]
    for i in (2, 0, 3, 1):
        small[i] = None
    before = memory.stats()["misses"]
    large = made(8 * MIB)
    assert memory.stats()["misses"] == before
    assert large.size == 8 * MIB


def test_blocks_in_use_never_overlap():
    def work(seed):
        draw = random.Random(seed)
        held = []
        for i in range(1500):
            if held and (len(held) > 12 or draw.random() < 0.4):
                y, value = held.pop(draw.randrange(len(held)))
                if y.min() != value or y.max() != value:
                    wrong.append((seed, i))
            else:
                value = draw.randrange(256)
                held.append((made(draw.randrange(memory.LARGE, 4 * memory.LARGE), value), value))

    wrong, before = [], memory.stats()["live"]
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    gc.collect()
    assert memory.stats()["live"] == before


def test_what_is_counted_balances():
    gc.collect()
    before = memory.stats()
    ys = [made(size) for size in (MIB, 300_000, 5 * MIB + 1)]
    during = memory.stats()
    whole = sum(y.nbytes for y in ys)
    assert whole <= during["live"] - before["live"] < whole + 3 * 4096
    assert (
        during["live"] <= during["peak"] and during["live"] + during["cached"] <= during["mapped"]
    )
    requests = [s["hits"] + s["misses"] for s in (before, during)]
    assert requests[1] == requests[0] + 3
    del ys
    assert memory.stats()["live"] == before["live"]


def test_small_arrays_come_from_numpy():
    before = memory.stats()
    y = memory.empty(memory.LARGE - 1, "u1")
    assert y.flags.owndata and memory.stats() == before


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
def test_trim_gives_memory_back_to_the_system():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    kept = made(MIB, 5)
    ys = [made(16 * MIB) for _ in range(4)]
    del ys
    assert memory.stats()["cached"] >= 64 * MIB
    before = resident()
    kernels.memory.trim()
    assert memory.stats()["cached"] == 0
    assert resident() < before - 60 * MIB
    assert (kept == 5).all()


def test_memory_that_is_no_longer_needed_is_given_back_by_and_by():
    memory.trim()
    ys = [made(32 * MIB) for _ in range(8)]
    del ys
    assert memory.stats()["cached"] >= 256 * MIB
    for _ in range(3 * 4096):
        memory.empty(memory.LARGE, "u1")
    assert memory.stats()["cached"] < 100 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on address space")
def test_when_memory_runs_out_the_pool_is_emptied_and_the_request_repeated():
    out = run(
        "import resource, numpy as np\n"
        "from flambeau.kernels.cpu import memory\n"
        "memory.empty(1 << 20, 'u1')\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)\n"
        "y = memory.empty(300 << 20, 'u1'); y[::4096] = 1; del y\n"
        "assert memory.stats()['cached'] >= 300 << 20\n"
        "z = memory.empty(500 << 20, 'u1'); z[::4096] = 1\n"  # only if the first region goes
        "assert memory.stats()['mapped'] < 600 << 20\n"
        "try: memory.empty((3, 1 << 30), 'f4')\n"
        "except MemoryError as error: print(error)\n"
    )
    assert out == "an array of shape (3, 1073741824) and dtype float32 needs 12884901888 bytes\n"


@pytest.mark.parametrize("shape", [(2**40, 2**40), (2**62,), (2**31, 2**31)])
def test_sizes_that_no_machine_has_are_an_error(shape):
    with pytest.raises(MemoryError, match="an array of shape"):
        memory.empty(shape, "f8")


def test_arrays_can_be_pickled_and_copied():
    y = made(MIB, 3)
    before = memory.stats()["live"]
    for twin in (pickle.loads(pickle.dumps(y)), copy.copy(y), copy.deepcopy(y), y.copy()):
        assert type(twin) is np.ndarray and (twin == y).all()
    buffers = []
    data = pickle.dumps(y, protocol=5, buffer_callback=buffers.append)
    assert (pickle.loads(data, buffers=buffers) == 3).all()
    assert memory.stats()["live"] == before


def test_a_later_forward_leaves_earlier_results_alone():
    with kernels.use("cpu"):
        net = nn.Sequential(nn.ReLU(), nn.Affine(2.0, 1.0), nn.Softmax(1))
        x = np.random.default_rng(0).normal(size=(4, 8, 64, 64)).astype("f4")
        first = net(x)
        before = first.copy()
        for _ in range(3):
            net(x + 1)
            net.backward(x, before)
        assert (first == before).all()


def test_copies_casts_and_joined_arrays_agree_with_the_reference():
    x = np.random.default_rng(0).normal(size=(3, 5, 90, 100)).astype("f4")
    turned = x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)  # channels last
    with kernels.use("reference"):
        expected = kernels.of(x).concatenate([x, turned], 1)
    for a in (x, turned, x[:, ::2]):
        assert (cpu.copy(a) == a).all() and cpu.copy(a).flags.c_contiguous
        assert (cpu.contiguous(a) == a).all() and cpu.contiguous(a).flags.c_contiguous
        y = cpu.cast(a, np.float64)
        assert y.dtype == "f8" and y.flags.c_contiguous and (y == a).all()
    for a in (x, turned):
        y = cpu.concatenate([a, turned], 1)
        assert (y == expected).all()
        assert y[:, :1].strides == cpu.empty(y, y.shape, "f4")[:, :1].strides or a is turned
    assert cpu.concatenate([turned, turned], 1).transpose(0, 2, 3, 1).flags.c_contiguous
    assert cpu.contiguous(x) is x


def test_arrays_that_live_until_the_process_ends_do_no_harm():
    assert run(
        "import atexit\n"
        "import numpy as np\n"
        "from flambeau.kernels.cpu import memory\n"
        "class Holder: pass\n"
        "a, b = Holder(), Holder()\n"
        "a.b, b.a, a.y = b, a, memory.empty(1 << 20, 'u1')\n"
        "y = memory.empty(1 << 21, 'u1')[5:]\n"
        "np.kept = memory.empty(1 << 20, 'u1')\n"
        "atexit.register(lambda z: (z.fill(2), print(memory.empty(1 << 20, 'u1').size)), y)\n"
    ).split() == [str(1 << 20)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_has_the_arrays_of_its_parent_and_makes_its_own():
    assert run(
        "import os, threading, warnings\n"
        "from flambeau.kernels.cpu import memory\n"
        "warnings.simplefilter('ignore')\n"  # Python 3.12 warns of fork beside threads
        "y = memory.empty(1 << 20, 'u1'); y[:] = 3\n"
        "stop = threading.Event()\n"
        "def busy():\n"
        "    while not stop.is_set(): memory.empty(1 << 17, 'u1')\n"
        "threads = [threading.Thread(target=busy) for _ in range(3)]\n"
        "for t in threads: t.start()\n"
        "for i in range(60):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        z = memory.empty(1 << 20, 'u1'); z[:] = 4; y[0] += 1\n"
        "        os._exit(not (y[0] == 4 and (y[1:] == 3).all() and (z == 4).all()))\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "stop.set()\n"
        "for t in threads: t.join()\n"
        "print((y == 3).all())\n"
    ).split() == ["True"]


def test_numpys_own_memory_is_used_where_that_is_asked_for():
    assert run(
        "from flambeau.kernels.cpu import memory\n"
        "print(memory.empty(1 << 24, 'u1').flags.owndata, memory.stats()['mapped'])",
        FLAMBEAU_MEMORY="numpy",
    ).split() == ["True", "0"]


@pytest.mark.cuda
@pytest.mark.parametrize(
    "ends",
    [
        "",  # at exit, after the context
        "thread = threading.Thread(target=lambda: kept.clear())\nthread.start()\nthread.join()\n",
    ],
    ids=["exit", "thread"],
)
def test_an_array_on_a_gpu_may_go_where_no_context_is(ends):
    assert run(
        "import threading\nimport numpy as np\n"
        "from flambeau import kernels\n"
        "kept = [kernels.to(np.ones(5, 'f4'), 'cuda')]\n"
        f"{ends}print('done')"
    ).split() == ["done"]
