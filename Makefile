# make alone lists the targets. Each check is one command, the same here and in .ci/run.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
E2E         := ./cmd/internal/e2e
VERSION      = $(shell git describe --tags --always --dirty 2>/dev/null)
UNIT         = $(shell go list ./... | grep -v /cmd/internal/e2e)

# For fuzz, bench, bench-compare and compare.
FUZZTIME ?= 10s
BENCH    ?= .
COUNT    ?= 6
PACKAGES ?= ./codec/... ./router/... ./engine/...
ARGS     ?=
SCENARIO ?= pairs

.DEFAULT_GOAL := help
.PHONY: help build test lint unit race e2e clients fuzz bench bench-compare compare compare-table profile pgo scale crash kubernetes clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the broker into bin/wheelmq
	go build -trimpath -pgo=profiles/broker.pgo -ldflags '-X main.version=$(VERSION)' -o bin/wheelmq ./cmd/wheelmq

test: clients lint unit race e2e ## everything that must pass; installs what it needs first

lint: ## gofmt, vet, staticcheck
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "gofmt would change:"; echo "$$files"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...

unit: ## unit tests and the layout of the module
	go test $(UNIT)
	go test -count=1 ./cmd/internal/layout

race: clients ## all tests with the race detector and the costly invariants
	go test -race -tags invariants $(UNIT)
	WHEELMQ_E2E_BUILD='-race -tags=invariants' go test -count=1 -timeout 20m $(E2E)

e2e: clients ## the broker as a process, driven by foreign MQTT clients
	go test -count=1 -timeout 20m $(E2E)

clients: ## install the foreign MQTT clients and a C compiler where missing (apt, npm)
	@.ci/clients

fuzz: ## every fuzz test for FUZZTIME=10s
	.ci/fuzz $(FUZZTIME)

bench: ## Go benchmarks: BENCH=regexp PACKAGES="./codec/..."
	go test -run '^$$' -bench '$(BENCH)' -benchmem $(PACKAGES)

bench-compare: ## Go benchmarks of this tree against REF=revision, COUNT=6 turns each, through benchstat
	@if [ -z "$(REF)" ]; then echo "usage: make bench-compare REF=main"; exit 1; fi
	.ci/bench-compare '$(REF)' '$(BENCH)' '$(COUNT)' '$(PACKAGES)'

compare: ## the same workloads against WheelMQ and Mosquitto: ARGS="-list" names them
	go build -trimpath -pgo=profiles/broker.pgo -ldflags '-X main.version=$(VERSION)' -o bin/wheelmq-compare ./cmd/wheelmq
	bin/wheelmq-compare bench compare $(ARGS)

compare-table: ## put the kept figures into the README
	go run ./cmd/wheelmq bench compare -table bench/results/latest.json -readme README.md

profile: ## CPU and heap profiles of the broker under SCENARIO=pairs, left in profiles/taken
	@.ci/profile profiles/taken $(SCENARIO) $(ARGS)

pgo: ## make profiles/broker.pgo anew, which make build uses
	@.ci/pgo

scale: ## N=20000 connections on one broker in a virtual machine with limits of its own; not part of test
	@.ci/scale

crash: ## kill -9 a broker with STORE=pebble, sqlite or mysql KILLS=1000 times under load; not part of test
	WHEELMQ_KILL_STORE=$(or $(STORE),pebble) WHEELMQ_KILLS=$(or $(KILLS),1000) go test -count=1 -timeout 60m -v -run '^TestKill' ./cmd/internal/e2e

kubernetes: clients ## service-account tokens against a real kube-apiserver, which is built first (half an hour, once); not part of test
	@.ci/kubernetes

clean: ## remove what make build made
	rm -rf bin
