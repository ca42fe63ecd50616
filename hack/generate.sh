#!/bin/sh
# Writes what is generated: deepcopy functions, CRDs, roles, the parts of the Helm
# chart that follow from them, and the pages of docs/ that follow from the code.
set -eu
cd "$(dirname "$0")/.."

gen() { go tool -modfile=hack/tools/go.mod controller-gen "$@"; }

gen object:headerFile=hack/boilerplate.go.txt crd paths=./api/... output:crd:artifacts:config=config/crd
controllers=./internal/controller
gen rbac:roleName=fairlead-controller \
	"paths={$controllers/assign,$controllers/claims,$controllers/gossipkey,$controllers/peerstatus,$controllers/poolstatus,$controllers/advertisementstatus,$controllers/servicestatus,./cmd/controller}" \
	output:rbac:dir=config/rbac/controller
gen rbac:roleName=fairlead-speaker \
	"paths={./internal/speaker,./internal/mirror,./internal/speakerstatus,./cmd/speaker}" \
	output:rbac:dir=config/rbac/speaker
go run -C hack/chart .
go run ./hack/docs
