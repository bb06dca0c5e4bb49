# make serve     install what is missing, build the two programs, start the daemon on the bundled model, show a first completion
# make test      install what is missing, build everything, run every test
# make test-all  also what takes long: sanitizers, fuzzing (installs clang), soak; all of it, whatever fails on the way
# make programs  only install and build what serving takes
# make build     only install and build everything
# make format    lay out the C++ code as .clang-format says
# CAUSEWAY_CUDA=ON|OFF|AUTO (AUTO: on where a driver is present)   BUILD=folder   JOBS=n
SHELL := /bin/bash
BUILD ?= build
JOBS ?= $(shell nproc)
CAUSEWAY_CUDA ?= AUTO
export CAUSEWAY_CUDA
env = eval $$(scripts/setup.sh --print) && export CCACHE_DIR CCACHE_BASEDIR CCACHE_NOHASHDIR CARGO_TARGET_DIR
cmake = cmake -G Ninja -S . -B $(BUILD) -DCAUSEWAY_DEPS=$$CAUSEWAY_DEPS -DCAUSEWAY_CUDA=$$CAUSEWAY_CUDA --log-level=WARNING
ninja = ninja -C $(BUILD) -j $(JOBS)

.PHONY: serve test test-all programs build configure format clean
# A folder that was configured with tests stays so: CMake keeps the option, and ninja builds only what it is asked for.
programs:
	@scripts/setup.sh
	@$(env) && $(cmake) >/dev/null && $(ninja) programs

configure:
	@scripts/setup.sh --tests
	@$(env) && $(cmake) -DCAUSEWAY_TESTS=ON >/dev/null

build: configure
	@$(env) && $(ninja)

serve: programs
	@scripts/serve.sh $(BUILD)

test: build
	@cd $(BUILD) && ctest --output-on-failure -j $(JOBS) -LE long --timeout 900

test-all: build
	@scripts/test-all.sh $(BUILD)

format:
	@scripts/setup.sh --tests
	@scripts/format.sh

clean:
	@rm -rf $(BUILD)
