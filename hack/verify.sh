#!/bin/sh
# Checks that what is generated, and the go.mod files, are up to date.
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp -R api config charts docs go.mod go.sum "$work"
restore() { for f in api config charts docs go.mod go.sum; do rm -rf "$f"; cp -R "$work/$f" .; done; }

./hack/generate.sh
go mod tidy
status=0
for f in api config charts docs go.mod go.sum; do
	diff -ru "$work/$f" "$f" || status=1
done
if [ $status != 0 ]; then
	restore
	echo "verify: out of date; run 'make generate' and 'go mod tidy', and commit the result" >&2
fi
for m in hack/chart hack/image test/containers; do
	(cd "$m" && go mod tidy -diff) || { echo "verify: run 'go mod tidy' in $m" >&2; status=1; }
done
exit $status
