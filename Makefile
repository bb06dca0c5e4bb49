# make serve     install what is missing, build, start the daemon on the bundled model and show a first completion
# make test      install what is missing, build, run every test
# make test-all  also what takes long: sanitizers, fuzzing (installs clang), soak; all of it, whatever fails on the way
# make build     only build
# CAUSEWAY_CUDA=ON|OFF|AUTO (AUTO: on where a driver is present)   BUILD=folder   JOBS=n
SHELL := /bin/bash
BUILD ?= build
JOBS ?= $(shell nproc)
CAUSEWAY_CUDA ?= AUTO
export CAUSEWAY_CUDA
env = eval $$(scripts/setup.sh --print) && export CCACHE_DIR CCACHE_BASEDIR CCACHE_NOHASHDIR CARGO_TARGET_DIR

.PHONY: serve test test-all build setup configure clean
setup:
	@scripts/setup.sh

configure: setup
	@$(env) && cmake -G Ninja -S . -B $(BUILD) -DCAUSEWAY_DEPS=$$CAUSEWAY_DEPS -DCAUSEWAY_CUDA=$$CAUSEWAY_CUDA --log-level=WARNING >/dev/null

build: configure
	@$(env) && ninja -C $(BUILD) -j $(JOBS)

serve: build
	@scripts/serve.sh $(BUILD)

test: build
	@cd $(BUILD) && ctest --output-on-failure -j $(JOBS) -LE long --timeout 900

test-all: build
	@scripts/test-all.sh $(BUILD)

clean:
	@rm -rf $(BUILD)
