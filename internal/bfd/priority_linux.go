package bfd

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Priorities of threads. Of the real-time ones these are the lowest: what the
// kernel itself does in threads comes first.
const (
	soonest     = -20 // the best value of nice
	realTime    = 1   // for the other threads of a child
	timersFirst = 2   // for the thread of the timers
)

// hasten lets the thread that calls it run before all others, as far as that is
// permitted, and returns what undoes it. A thread that it would fork would be an
// ordinary one.
func hasten() (Priority, func()) {
	if setFIFO(0, timersFirst, unix.SCHED_FLAG_RESET_ON_FORK) == nil {
		return PriorityRealTime, func() {
			_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
		}
	}
	if unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), soonest) == nil {
		return PriorityNice, func() { _ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 0) }
	}
	return PriorityNormal, func() {}
}

// hastenAll lets all threads of this program run before others', if that is
// permitted. It is for a child, which hardly ever runs: Go's scheduler has locks
// that the timers' thread takes with each system call, and must not find in the
// hands of a thread that waits for a core. Threads to come are as the one that
// makes them.
func hastenAll() {
	tasks, _ := os.ReadDir("/proc/self/task") // without /proc, without
	for _, t := range tasks {
		id, err := strconv.Atoi(t.Name())
		if err == nil && setFIFO(id, realTime, 0) != nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, soonest)
		}
	}
}

func setFIFO(thread, priority int, flags uint64) error {
	return unix.SchedSetAttr(thread, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: uint32(priority), Flags: flags}, 0)
}
