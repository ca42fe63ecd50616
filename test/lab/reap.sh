#!/bin/sh
# reap.sh ID DIR: remove all of a lab once its owner is gone.
#
# The standard input is a pipe of which only the owner has the other end. It
# ends when the owner closes it, and also when the owner is killed; only a line
# "keep" says that the lab shall outlive its owner. `lab down` runs this script
# with no input at all, so there is one way to clean up and not two.
#
# What belongs to the lab is told by names alone: processes by FAIRLEAD_LAB=ID
# in their environment, namespaces and cgroups by the prefix fl-ID-, files by DIR.
# Containers have an environment of their own; they end with their node's first
# process (machine.sh).
id=$1 dir=$2
case $id in '' | *[!a-z0-9]*) echo "reap: bad id '$id'" >&2; exit 2 ;; esac
case $dir in */"$id") ;; *) echo "reap: '$dir' is not the folder of lab $id" >&2; exit 2 ;; esac
unset FAIRLEAD_LAB # or it would find itself
trap '' HUP INT TERM

read -r word
[ "$word" = keep ] && exit 0

members() { # the ids of the lab's processes; a dead one has no environment
	grep -lzxsF "FAIRLEAD_LAB=$id" /proc/[0-9]*/environ | cut -d/ -f3
}

# Again until none is left: a process may fork while it is looked for.
tries=0
while pids=$(members) && [ -n "$pids" ]; do
	tries=$((tries + 1))
	if [ $tries -gt 100 ]; then
		echo "reap: processes of lab $id do not end:" $pids >&2
		exit 1
	fi
	kill -KILL $pids 2>/dev/null
	sleep 0.02
done

failed=0
for ns in /run/netns/fl-"$id"-*; do
	[ -e "$ns" ] || continue
	ip netns delete "${ns##*/}" || failed=1
done

cgroups() { find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name "fl-$id-*" 2>/dev/null; }

# A container that was killed is in its cgroup until it has gone altogether.
tries=0
while left=$(cgroups) && [ -n "$left" ]; do
	find $left -depth -type d -exec rmdir {} + 2>/dev/null
	tries=$((tries + 1))
	if [ $tries -gt 100 ]; then
		echo "reap: cgroups of lab $id are still in use:" $left >&2
		exit 1
	fi
	sleep 0.02
done

# Anything mounted inside the folder goes first, or its content would go along.
while read -r _ at _; do
	case $at in "$dir"/*) umount -l "$at" || failed=1 ;; esac
done </proc/self/mounts

[ $failed = 0 ] || exit 1
rm -rf --one-file-system "$dir"
