#!/bin/sh
# deps.sh [--tests]: looks whether this machine has what the lab needs, or what
# `make test` needs, and installs the Debian packages that are missing, after it
# has said which and why. Where it cannot, it says what to type.
set -eu
cd "$(dirname "$0")/.."

die() { echo "deps: $*" >&2; exit 1; }

# newer A B: version A is B or later.
newer() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

# Go comes first: it is what looks for the rest.
want=$(sed -n 's/^go //p' go.mod)
if ! command -v go >/dev/null; then
	[ -z "${SUDO_USER:-}" ] || echo "deps: sudo may hide it; if you have Go, try: sudo env \"PATH=\$PATH\" make demo" >&2
	die "there is no go in PATH. Go $want or later is needed: https://go.dev/doc/install"
fi
# Asked from elsewhere, or an old one would choke on our go.mod, and a newer one
# answer for the version that it would fetch.
have=$(cd / && go env GOVERSION | sed 's/^go//; s/[ -].*//')
if ! newer "$have" "$want"; then
	if newer "$have" 1.21 && [ "$(go env GOTOOLCHAIN)" != local ]; then
		echo "deps: Go $want is needed; this is $have, which fetches that by itself"
	else
		die "Go $want or later is needed, and $(command -v go) is $have. Get one from https://go.dev/dl and put it first in PATH"
	fi
fi

# Said only where there is something to wait for.
(sleep 5 && echo "deps: compiling the lab; from nothing that takes a few minutes") &
notice=$!
trap 'kill $notice 2>/dev/null || true' EXIT
trap 'exit 130' INT
go build -buildvcs=false -o bin/lab ./test/lab/cmd/lab || die "cannot compile the lab; see above"
kill $notice 2>/dev/null || true
trap - EXIT

missing=$(bin/lab deps "$@")
[ -n "$missing" ] || exit 0
names=$(bin/lab deps --names "$@" | tr '\n' ' ')
echo "Missing on this machine:"
echo "$missing" | sed 's/^/  /'
if ! command -v apt-get >/dev/null; then
	echo "There is no apt-get here; install these by other means. On Debian: apt-get install $names"
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "To install them, as root: apt-get install --no-install-recommends $names"
	exit 0
fi
echo "Installing: $names"
export DEBIAN_FRONTEND=noninteractive

# FRR, BIRD and Prometheus come as services that start by themselves, and would be routers of
# this very machine, or watch it. Their programs only are needed: so they are told not to
# start now (policy-rc.d, which a machine may have already) nor at boot.
policy=/usr/sbin/policy-rc.d
services=''
case " $names " in *' frr '*) services=frr ;; esac
case " $names " in *' bird2 '*) services="$services bird" ;; esac
case " $names " in *' prometheus '*) services="$services prometheus" ;; esac
if [ -n "$services" ] && [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	trap 'exit 130' INT
	printf '#!/bin/sh\ncase $1 in frr* | bird* | prometheus*) exit 101 ;; esac\n' >$policy
	chmod 755 $policy
fi
keep_off() {
	for s in $services; do
		if [ -d /run/systemd/system ]; then
			systemctl disable --now --quiet "$s" || true
		else
			update-rc.d "$s" disable >/dev/null 2>&1 || true
		fi
	done
}

install() { apt-get install --yes -qq --no-install-recommends $names >/dev/null; }
# A fresh machine has no lists of packages, an old one lists that are out of date.
install 2>/dev/null || { apt-get update -qq && install; } ||
	die "apt-get failed, see above. Install these, and run make again: $names"
keep_off
