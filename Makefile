# Two commands: `make demo` and `make test`. Each installs what it needs into .venv; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt README.md $(shell find csrc python tutorials -type f -not -name '*.pyc')

.PHONY: demo tutorials test test-python test-pure test-cpp check-instructions fuzz bench docs lint format clean

demo: $(VENV)/.installed-tutorials
	$(BIN)/glassgrad demo

# Every tutorial, a line each; opens nothing. One alone: .venv/bin/glassgrad tutorial 5
tutorials: $(VENV)/.installed-tutorials
	$(BIN)/glassgrad tutorial all

test: test-python test-cpp

# PYTEST_ADDOPTS passes options on: make test-python PYTEST_ADDOPTS="-k softmax".
test-python: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto

# The same package without compiled modules: everything on the NumPy reference.
test-pure: $(VENV)/.installed-test
	rm -rf build/pure
	GLASSGRAD_NATIVE=OFF $(BIN)/python -m pip install -q --no-deps --target build/pure .
	PYTHONPATH=build/pure $(BIN)/python -m pytest -n auto tests/test_ops.py tests/test_autograd.py tests/test_nn.py

# The kernels without Python: once plain for every instruction set, once under ASan and UBSan, what threads share under TSan.
CMAKE := $(BIN)/cmake -S . -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) -DGLASSGRAD_PYTHON=OFF -DGLASSGRAD_TESTS=ON
test-cpp: $(VENV)/.installed-test
	$(CMAKE) -B build/cpp
	$(BIN)/cmake --build build/cpp
	$(BIN)/ctest --test-dir build/cpp --output-on-failure
	$(CMAKE) -B build/asan -DGLASSGRAD_ISAS=avx2 -DGLASSGRAD_SANITIZE=address,undefined
	$(BIN)/cmake --build build/asan
	$(BIN)/ctest --test-dir build/asan --output-on-failure
	$(CMAKE) -B build/tsan -DGLASSGRAD_ISAS=avx2 -DGLASSGRAD_SANITIZE=thread
	$(BIN)/cmake --build build/tsan
	build/tsan/kernel_tests_avx2 parallel
	build/tsan/kernel_tests_avx2 allocator
	build/tsan/kernel_tests_avx2 threads

# Random bytes to every kernel, under ASan and UBSan: make fuzz SECONDS=60 (of each target). Needs Clang with libFuzzer;
# root on a system with apt gets it.
SECONDS := 10
SEED := 0
LIBFUZZER := echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' | \
	clang++ -x c++ -fsanitize=fuzzer,address,undefined - -o /dev/null 2> /dev/null
fuzz: $(VENV)/.installed-test
	@$(LIBFUZZER) || { [ "$$(id -u)" = 0 ] && apt-get install -y -qq clang libclang-rt-dev; } || true
	@$(LIBFUZZER) || { echo "make fuzz: no clang++ with libFuzzer; on Debian: apt-get install clang libclang-rt-dev"; exit 1; }
	$(CMAKE) -B build/fuzz -DGLASSGRAD_TESTS=OFF -DCMAKE_CXX_COMPILER=clang++ -DGLASSGRAD_FUZZ=ON -DGLASSGRAD_ISAS=avx2 \
		-DGLASSGRAD_SANITIZE=address,undefined
	$(BIN)/cmake --build build/fuzz
	tests/fuzz/run build/fuzz $(SECONDS) $(SEED)

# Instructions of a handful of kernels against benchmarks/instructions.json. UPDATE=--update records them anew.
check-instructions: $(VENV)/.installed-test
	$(CMAKE) -B build/cpp
	$(BIN)/cmake --build build/cpp --target kernel_counts_avx2
	$(BIN)/python benchmarks/instructions.py build/cpp/kernel_counts_avx2 $(UPDATE)

# Every case against NumPy and, where it is installed, PyTorch: see benchmarks/README.md. BENCH="gemm --rounds 3" times less.
BENCH ?= all
bench: $(VENV)/.installed-bench
	GLASSGRAD_COMMIT=$$(git describe --always --tags --dirty) $(BIN)/glassgrad bench $(BENCH) --threads 1,2 --results benchmarks/results

# The site, into build/docs: generated pages, and every tutorial run for its pictures. A warning is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files '*.cpp' '*.h' | xargs $(BIN)/clang-format --dry-run -Werror

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files '*.cpp' '*.h' | xargs $(BIN)/clang-format -i

clean:
	rm -rf build $(VENV)/.installed-*

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install -q ".[$*]"
	touch $@
