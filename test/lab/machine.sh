#!/bin/sh
# machine.sh DIR: the first process of a node that runs pods.
#
# It was started in process and mount namespaces of its own, so the kernel takes
# away all that runs and is mounted there as soon as this process is gone, however
# that came about: containers, their shims, their file systems. What a node writes
# to is in memory, and empty at each start; DIR, the lab's folder, is the machine's.
set -eu
cd "$1"
mount --make-rprivate /
mount -t proc proc /proc
for at in /run /var/lib /var/log; do
	mount -t tmpfs -o mode=755 tmpfs "$at"
done
mkdir -p "$1"
mount --no-canonicalize --bind . "$1" # the folder may be in what has just been covered
echo up

# Orphans become this process's children. As it ignores their ends, the kernel waits
# for them.
exec env --ignore-signal=CHLD sleep infinity
