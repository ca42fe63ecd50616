# Fairlead. `make help` lists the targets.

SHELL := /bin/sh
export CGO_ENABLED ?= 0

MODULE := $(shell sed -n 's/^module //p' go.mod)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X $(MODULE)/internal/version.version=$(VERSION)
REVISION := $(shell git rev-parse HEAD 2>/dev/null)
# The image's time is its commit's: the same commit is the same image.
CREATED := $(or $(SOURCE_DATE_EPOCH),$(shell git show -s --format=%ct HEAD 2>/dev/null),0)
# The image's name is what the chart installs.
IMAGE ?= $(shell sed -n 's/^  repository: //p' charts/fairlead/values.yaml)
TOOL := go tool -modfile=hack/tools/go.mod
# The linter's cache names files by their paths: of another clone's, removed since, it tells what is not so.
export GOLANGCI_LINT_CACHE := $(CURDIR)/bin/golangci-lint
FUZZTIME ?= 20s
DURATION ?= 15m
PLUGINS := linux-amd64 linux-arm64 darwin-amd64 darwin-arm64 windows-amd64

.DEFAULT_GOAL := help
.PHONY: help build test demo lab-up lab-down lint generate verify fuzz bench images clean deps assets unit cover test-install golden helm story plugins soak

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build controller, speaker and the kubectl plugin into bin/
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/controller ./cmd/speaker ./cmd/kubectl-fairlead
	install -m 755 cmd/kubectl-fairlead/kubectl_complete-fairlead bin/

plugins: ## build the kubectl plugin for Linux, macOS and Windows into bin/plugins/
	@for p in $(PLUGINS); do \
		GOOS=$${p%-*} GOARCH=$${p#*-} go build -trimpath -ldflags '$(LDFLAGS)' -o bin/plugins/$$p/ ./cmd/kubectl-fairlead || exit 1; \
	done
	@ls -1 bin/plugins/*/*

# What has a lab has the machine to itself: its clocks are real.
test: DEPS := --tests
test: deps verify assets ## check everything: generated files, lint, unit, API server and lab tests
	CGO_ENABLED=1 go test -race -timeout 20m ./api/... ./cmd/... ./hack/... ./internal/...
	@$(MAKE) --no-print-directory cover
	@$(MAKE) --no-print-directory test-install
	CGO_ENABLED=1 go test -race -timeout 45m -p 1 ./test/...

unit: ## run the tests that need neither root nor a lab, the long ones shortened
	go test -short ./api/... ./cmd/... ./internal/...

cover: ## print the unit test coverage of the core packages; fail below the figures of hack/cover.txt
	@./hack/cover.sh

story: deps assets ## test the life of an installation on real pods: install, upgrade, drain, uninstall
	go test -count=1 -timeout 20m -v ./test/story/...

# A run has no time limit as a whole: each of its steps has one.
soak: DEPS := --tests
soak: deps assets ## inject random faults into a lab for DURATION, and check it after each round; SEED=n repeats a run, RACE=1 adds the race detector, WITHOUT=kind,… excludes faults
	$(if $(RACE),FAIRLEAD_LAB_RACE=1) go test -count=1 -timeout 0 -v -run 'TestSoak$$' ./test/soak -duration=$(DURATION) $(if $(SEED),-seed=$(SEED)) $(if $(WITHOUT),-without=$(WITHOUT))

# These are modules of their own. Go's cache of results does not see that files
# outside of a module have changed: hence -count=1.
test-install: ## check the chart, the plain manifests and the image (no cluster)
	go test -C hack/chart -count=1 ./...
	go test -C hack/check ./...
	go test -C hack/image -count=1 ./...

demo: deps ## show a Service that gets an address, a client that reaches it, and a failover
	@go run ./test/lab/cmd/lab demo

lab-up: deps ## start a lab to try things in
	@go run ./test/lab/cmd/lab up

lab-down: ## remove the labs that `make demo` and `make lab-up` left
	@go run ./test/lab/cmd/lab down --kept

lint: ## go vet, staticcheck, gofmt and more (.golangci.yml)
	$(TOOL) golangci-lint run ./...
	@for m in hack/chart hack/check hack/image; do (cd $$m && go tool -modfile=../tools/go.mod golangci-lint run ./...) || exit 1; done

generate: ## regenerate deepcopy functions, CRDs, roles, their copies in the chart, and generated docs
	./hack/generate.sh

golden: ## regenerate the chart's golden files and config/deploy
	go test -C hack/chart -count=1 -run 'TestGolden|TestPlainManifests' . -update

verify: lint ## check generated files, go.mod, links in docs, licences and vulnerabilities; and lint
	./hack/verify.sh

fuzz: ## fuzz every parser for FUZZTIME
	./hack/fuzz.sh $(FUZZTIME)

bench: deps assets ## run the benchmarks: the allocator, and controller and speaker in the lab
	go test -run '^$$' -bench . -benchmem ./internal/...
	go test -run '^$$' -bench . -benchtime 1x -timeout 2h ./test/bench/...

images: ## build the container image for amd64 and arm64, as the OCI archive bin/fairlead-image.tar
	@go run -C hack/image . -name '$(IMAGE)' -version '$(VERSION)' -revision '$(REVISION)' -created '$(CREATED)'

helm: ## build Helm into bin/helm; takes about three minutes, once
	go build -C hack/chart -trimpath -o ../../bin/helm helm.sh/helm/v4/cmd/helm

clean: lab-down ## remove labs and build output
	rm -rf bin

deps: ## install the Debian packages that the lab needs, and print which and why
	@./hack/deps.sh $(DEPS)

assets: ## build the programs of labs (Kubernetes, containerd, Helm); takes about fifteen minutes, once
	@go run ./test/lab/cmd/lab assets
