# buildcage. "make" lists the targets. What takes more than a line is in scripts/.

# One set of flags for building, testing and linting, so that all three share Go's cache.
export GOFLAGS := -trimpath -buildvcs=false
export CGO_ENABLED := 0

GO      ?= go
FUZZ    ?= 30s

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup cage build demo test lint unit e2e battery mutate test-vm bench release fuzz fmt clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: C compiler and libraries, nftables, mmdebstrap, an engine if none answers
	@scripts/setup

cage: ## build the cage image into embed/cage (nothing to do when it is current)
	@scripts/build cage

build: ## build bin/buildcage with the cage image inside
	@scripts/build

demo: setup ## audit a real build, build it with the allowlist, then try a hostile one
	@scripts/prepare node && scripts/demo

test: setup ## run every test there is; none is skipped
	@scripts/prepare && scripts/release tool && scripts/golangci run ./... && $(GO) run ./scripts/suite all

lint: ## run golangci-lint
	@scripts/golangci run ./...

unit: ## run the tests that need neither root nor an engine
	@$(GO) run ./scripts/suite unit

e2e: setup build ## run the tests against a real engine
	@$(GO) run ./scripts/suite e2e

battery: setup build ## run every attack case in the lab and write docs/battery.md
	@$(GO) run ./scripts/suite battery && cat .cache/lab/battery.txt

mutate: setup build ## break the product on purpose: each of test/mutations must turn its cases red
	@scripts/mutate

test-vm: setup build ## run the cases about kernel and engine on a stock Debian kernel under QEMU
	@scripts/test-vm

bench: setup build ## compare with HAProxy and with an uncaged builder, and write docs/benchmarks.md
	@scripts/bench

release: build ## make a release without publishing it, into dist/
	@scripts/release snapshot

fuzz: ## run every fuzz target for FUZZ=30s
	@FUZZ=$(FUZZ) scripts/fuzz

fmt: ## format the code
	@scripts/golangci fmt

clean: ## remove what was built; keep the tools in .cache
	@rm -rf bin .cache/cage .cache/suite embed/cage/*/image.tar.zst embed/cage/*/manifest.json
