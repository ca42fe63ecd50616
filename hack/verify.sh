#!/bin/sh
# Checks that what is generated and the go.mod files are up to date, that links in
# the documentation lead somewhere, that the plugin builds for other systems than Linux,
# and that the libraries in our programs may be shipped: by their licences, and
# without a known vulnerability in what we call.
set -eu
cd "$(dirname "$0")/.."

# The list of vulnerabilities is on the network, or where GOVULNDB says: without
# it, nothing can be said, which must not keep anybody from working. The small scan
# is there to know that at once; it does not see what the programs call.
vulnerabilities() {
	scan() { go tool -modfile=hack/tools/go.mod govulncheck -db "${GOVULNDB:-https://vuln.go.dev}" "$@" 2>&1; }
	found=$(scan -C cmd/controller -scan module || true)
	case $found in
	*"fetching vulnerabilities: "*) echo "verify: not checked for vulnerabilities: ${found##*fetching vulnerabilities: }" >&2 ;;
	*) found=$(scan ./cmd/...) || { printf '%s\n' "$found" >&2; return 1; } ;;
	esac
}

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
for m in hack/chart hack/check hack/image test/containers; do
	(cd "$m" && go mod tidy -diff) || { echo "verify: run 'go mod tidy' in $m" >&2; status=1; }
done
go run -C hack/check . || status=1
former='\(github\.com\|ghcr\.io\)/fairlead/' # the account belongs to others
! git grep -nI "$former" -- ':!hack/verify.sh' >&2 || { echo "verify: write fairlead-lb/ instead" >&2; status=1; }
for os in darwin windows; do # people work there, and the plugin is all that they need
	GOOS=$os go build -o /dev/null ./cmd/kubectl-fairlead || { echo "verify: kubectl-fairlead does not build for $os" >&2; status=1; }
done
vulnerabilities || status=1
exit $status
