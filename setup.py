from concurrent.futures import ThreadPoolExecutor

from setuptools import setup
from setuptools.command.build_ext import build_ext


class ParallelBuild(build_ext):
    """Compiles the sources of an extension side by side: each is a kernel variant of its own."""

    def build_extension(self, extension):
        compile_all = self.compiler.compile

        def compile_each(sources, **options):
            with ThreadPoolExecutor() as pool:
                objects = pool.map(lambda source: compile_all([source], **options), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = compile_each
        super().build_extension(extension)


setup(cffi_modules=["kernels/cpu/build.py:ffi"], cmdclass={"build_ext": ParallelBuild})
