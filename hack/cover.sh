#!/bin/sh
# Prints how much of each package that decides something its own tests cover, without root,
# and fails if that is less than hack/cover.txt has.
set -eu
cd "$(dirname "$0")/.."
packages=$(awk '!/^#/ { print "./" $1 }' hack/cover.txt)
# shellcheck disable=SC2086 # a list
report=$(go test -short -cover $packages) || { printf '%s\n' "$report" >&2; exit 1; }
printf '%s\n' "$report" | awk '
	FNR == NR { if ($1 !~ /^#/) floor[$1] = $2; next }
	match($0, /coverage: [0-9.]+%/) {
		covered = substr($0, RSTART + 10, RLENGTH - 11)
		for (i = 1; i <= NF; i++) if ($i ~ /internal\//) name = substr($i, index($i, "internal/"))
		seen[name] = 1
		printf "%6.1f %%  %s\n", covered, name
		if (covered + 0 < floor[name]) { printf "cover: %s has %s %%, and needs %s %% (hack/cover.txt)\n", name, covered, floor[name]; bad = 1 }
	}
	END { for (n in floor) if (!seen[n]) { printf "cover: nothing was measured of %s\n", n; bad = 1 } exit bad }
' hack/cover.txt -
