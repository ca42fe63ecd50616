#!/bin/sh
# Runs every fuzz test for the time given, one after the other. Inputs are minimized in
# few steps: by default that takes a minute for each which covers something new, in vain
# where goroutines never cover the same twice.
set -eu
cd "$(dirname "$0")/.."

grep -rl --include='*_test.go' '^func Fuzz' internal | while read -r file; do
	for name in $(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' "$file"); do
		go test -run '^$' -fuzz "^$name\$" -fuzztime "$1" -fuzzminimizetime 100x "./$(dirname "$file")"
	done
done
