from setuptools import setup

setup(cffi_modules=["kernels/cpu/build.py:ffi"])
