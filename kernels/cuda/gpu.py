"""CUDA kernels on a GPU, by pycuda: contexts, memory pools, loaded kernels, launches."""

import atexit
import contextlib
import math

from flambeau.kernels.cuda import source

THREADS = 256  # BLOCK of kernel.h
_FORMATS = {"i64": "q", "real4": "f", "real8": "d"}
_UNCHANGED = contextlib.nullcontext()
_gpus = {}


def of(x):
    """The Gpu on which a GPUArray lies: its pool's, or the current context's."""
    owner = getattr(x.allocator, "__self__", None)
    return owner if isinstance(owner, Gpu) else get(None)


def get(ordinal):
    """The Gpu of a device number; None: the current context's, or number 0."""
    driver = _driver()
    context = driver.Context.get_current()
    if context is not None:
        current = driver.Context.get_device()
        here = next(i for i in range(driver.Device.count()) if driver.Device(i) == current)
        if here not in _gpus and ordinal in (None, here):
            _gpus[here] = Gpu(here, context)
        ordinal = here if ordinal is None else ordinal
    ordinal = ordinal or 0
    if ordinal not in _gpus:
        if ordinal >= driver.Device.count():
            raise RuntimeError(
                f"cuda:{ordinal} must be a device of this machine — it has "
                f"{driver.Device.count()}, the first is cuda:0"
            )
        retained = driver.Device(ordinal).retain_primary_context()
        if context is None:  # stays current, so that plain GPUArray methods work
            retained.push()
            atexit.register(driver.Context.pop)
        _gpus[ordinal] = Gpu(ordinal, retained)
    return _gpus[ordinal]


def _driver():
    try:
        import pycuda.driver as driver
    except ImportError as error:
        raise RuntimeError(
            f"a GPU needs pycuda and NVIDIA's driver — {error}. Install flambeau[cuda], or use "
            'the device "host", which runs the same kernels without a GPU'
        ) from error
    driver.init()
    return driver


class Gpu:
    """One GPU: its context, its pool of memory and the kernels loaded on it."""

    def __init__(self, ordinal, context):
        import pycuda.driver as driver
        from pycuda.gpuarray import GPUArray
        from pycuda.tools import DeviceMemoryPool

        self.ordinal = ordinal
        self.context = context
        self._driver = driver
        device = driver.Device(ordinal)
        self.architecture = "sm_{}{}".format(*device.compute_capability())
        self.blocks = 32 * device.get_attribute(driver.device_attribute.MULTIPROCESSOR_COUNT)
        self._functions = {}
        self._array = GPUArray
        self.allocator = self.allocate  # what its arrays have: one object, so that `is` compares
        with self.current():
            self._pool = DeviceMemoryPool()
            # A pool that comes to hold its first block takes the current context with it, and
            # ends the process where there is none (in another thread, at exit): it has one now.
            self._pool.allocate(1).free()
        atexit.register(self._pool.stop_holding)  # before the context goes: arrays may outlive it

    def __repr__(self):
        return f"cuda:{self.ordinal}"

    def current(self):
        """Inside, this GPU's context is the current one."""
        here = self._driver.Context.get_current() == self.context
        return _UNCHANGED if here else self._pushed()

    @contextlib.contextmanager
    def _pushed(self):
        self.context.push()
        try:
            yield
        finally:
            self._driver.Context.pop()

    def allocate(self, nbytes):
        """Memory from the pool."""
        with self.current():
            return self._pool.allocate(max(nbytes, 2))  # never the one byte that the pool holds

    def empty(self, shape, dtype):
        """A new GPUArray of any contents."""
        # pycuda cannot reshape or slice an empty array that has no address.
        address = None if math.prod(shape) else 0
        with self.current():
            return self._array(shape, dtype, allocator=self.allocator, gpudata=address)

    def clear(self, x):
        """x[...] = 0 for a C-contiguous x."""
        if x.size:
            with self.current():
                self._driver.memset_d8_async(int(x.gpudata), 0, x.nbytes, None)

    def spread(self, n):
        """The blocks for n elements."""
        return -(-n // THREADS)

    def launch(self, family, name, dtype, kinds, values, blocks):
        """Run a kernel on at most `blocks` blocks."""
        with self.current():
            function, block = self._function(family, name, dtype, kinds, values)
            grid = min(blocks, self.blocks)
            function.prepared_call((grid, 1, 1), block, *values)

    def _function(self, family, name, dtype, kinds, values):
        """The function, prepared for arguments such as the values, and its block of threads."""
        key = family, name, dtype
        if key not in self._functions:
            cubin = source.cubin(family, dtype, self.architecture)
            function = self._driver.module_from_file(str(cubin)).get_function(name)
            size = str(dtype.itemsize)
            formats = (
                f"{len(v)}s"
                if isinstance(v, bytes)
                else _FORMATS.get(k + size * (k == "real"), "P")
                for k, v in zip(kinds, values, strict=True)
            )
            function.prepare(list(formats))
            self._functions[key] = function, (source.threads(family).get(name, THREADS), 1, 1)
        return self._functions[key]
