# The front door. Each target with two number signs is a line of `make help`; what is more than a line
# stands in a script.
.DEFAULT_GOAL := help
.PHONY: help run test lint unit web hostile e2e cluster cluster-down images push bench generate

help: ## Show these lines
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Serve local mode and a page to try it on LISTEN (127.0.0.1:8080), without a cluster
	deploy/run-local

test: ## Everything: lints, unit tests, end to end on a real cluster (E2E=skip leaves that out)
	.ci/test

lint: ## Format, lints, documentation, licenses, chart, generated files
	.ci/test lint

unit: ## Unit tests
	.ci/test unit

web: ## The front end: types, lints, unit tests, build, size
	.ci/test web

hostile: ## Hostile programs on the runner and in local mode, and a minute of generated ones
	.ci/test hostile

e2e: ## End-to-end tests on a cluster of their own, or on that of E2E_KUBECONFIG
	e2e/run

cluster: ## That cluster with the chart installed, left running; prints its URL and kubeconfig
	e2e/run up

cluster-down: ## End it
	e2e/run down

images: ## Build both images for this machine (OFFLINE=1: without any registry)
	deploy/build-images $(if $(OFFLINE),--offline-base)

push: ## Build both images for amd64 and arm64 and push them to REGISTRY, such as icr.io/yours
	$(if $(REGISTRY),,$(error REGISTRY is missing: make push REGISTRY=icr.io/yours))
	deploy/build-images push $(REGISTRY)

bench: ## Measure answers beside their floors; writes target/bench/report.json and report.svg
	e2e/run bench

generate: ## Write the generated files anew: definitions, table of the chart's values, description of the API
	cargo run --quiet -p codeexec-crds --bin crdgen charts/codeexec/files/crds
	charts/codeexec/gen-values-docs
	cargo run --quiet -p codeexec-api --bin openapigen docs/openapi.json
