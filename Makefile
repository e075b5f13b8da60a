# demo · test · check · sanitize · bench · build: each sets up what it needs the first time
PYTHON ?= python3
EXTRAS ?= test
VENV = .venv
BIN = $(VENV)/bin
NATIVE = $(wildcard kernels/cpu/*.c kernels/cpu/*.h)
SETUP = setup.cfg setup.py pyproject.toml kernels/cpu/build.py
READY = $(VENV)/.ready-$(subst $(comma),-,$(EXTRAS))
comma = ,

.PHONY: demo test check sanitize bench build clean

# the environment: the package installed in place, with what tests and demo need
$(READY): $(SETUP) $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .[$(EXTRAS)]
	touch $@

demo: $(READY)
	$(BIN)/python docs/examples/demo.py

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: $(READY)
	$(BIN)/ruff format --check -q . && $(BIN)/ruff check -q .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -x
	if command -v nvcc >/dev/null; then $(BIN)/python -m flambeau.kernels check; fi

# the C kernels in a copy of the tree, watched by AddressSanitizer and UBSan
SANITIZERS = $(foreach library,asan ubsan,$(shell $(CC) -print-file-name=lib$(library).so))
WATCHED = $(addprefix tests/test_,modules.py conv.py conv_gradients.py recurrent.py optimize.py \
  embedding.py joined_norms.py kept_weights.py linear.py losses.py norm_relu.py pooled.py recorded.py \
  recorded_changes.py recording.py with_relu.py)
sanitize: $(READY)
	rm -rf build/sanitize && mkdir -p build/sanitize/flambeau
	tar cf - --exclude=./.* --exclude=./build --exclude=_native* . | tar xf - -C build/sanitize/flambeau
	cd build/sanitize/flambeau && \
	  FLAMBEAU_SANITIZE=1 $(CURDIR)/$(BIN)/python setup.py -q build_ext --inplace && \
	  LD_PRELOAD="$(SANITIZERS)" ASAN_OPTIONS=detect_leaks=0 FLAMBEAU_MEMORY=numpy \
	  PYTHONPATH=$(CURDIR)/build/sanitize \
	  $(CURDIR)/$(BIN)/python -m pytest -p no:cacheprovider $(WATCHED) -k "cpu or not host"

bench:
	$(MAKE) EXTRAS=test,bench $(VENV)/.ready-test-bench
	$(BIN)/python tests/bench

build: $(READY)
	$(BIN)/python setup.py -q build_ext --inplace

clean:
	rm -rf build *.egg-info kernels/cpu/_native* .venv
