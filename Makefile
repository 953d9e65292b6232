# nosa's own verbs. `make demo` and `make test` install what is missing; everything else expects it.

DEMO ?= demo
NOSA = target/release/nosa

# Where rustup puts the toolchain.
export PATH := $(HOME)/.cargo/bin:$(PATH)

.PHONY: demo test deps build client check bench clean

## From nothing to a booted machine: builds nosa, builds debian-container in $(DEMO)/, boots and tests it.
demo: deps build
	.ci/demo $(NOSA) $(DEMO)

## All tests, the boots included.
test: deps
	.ci/test

## The programs and the toolchain that nosa is built with and needs at run time.
deps:
	.ci/deps

build: client
	cargo build --release --locked

## The client that updates machines: nosa puts it into Debian systems.
client:
	.ci/client

## What every commit must pass before the tests.
check:
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

## Ratios against the field's own programs on the same input; as root (sudo -E make bench).
bench: deps
	cargo bench --locked

clean:
	cargo clean
