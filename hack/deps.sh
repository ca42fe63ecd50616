#!/bin/sh
# Installs the Debian packages that are missing, after it has said which and
# why. Without root or apt it says so and goes on: the tests that need them are
# skipped and say why.
set -eu
cd "$(dirname "$0")/.."

missing=$(go run ./test/lab/cmd/lab deps)
[ -n "$missing" ] || exit 0
echo "Missing on this machine:"
echo "$missing" | sed 's/^/  /'
names=$(go run ./test/lab/cmd/lab deps --names)
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "To install them: apt-get install --yes" $names
	exit 0
fi
echo "Installing:" $names
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install --yes -qq --no-install-recommends $names >/dev/null
