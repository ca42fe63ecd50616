package bfd

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// soonest is the best value of nice.
const soonest = -20

// hasten lets the thread that calls it run before all others, as far as that is
// permitted, and returns what undoes it. A thread that it would fork would be an
// ordinary one.
func hasten() (Priority, func()) {
	attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if unix.SchedSetAttr(0, attr, 0) == nil {
		return PriorityRealTime, func() {
			_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
		}
	}
	if unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), soonest) == nil {
		return PriorityNice, func() { _ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 0) }
	}
	return PriorityNormal, func() {}
}

// hastenAll lets all threads of this program run sooner than others', if that is
// permitted: the timers' thread may have to wait for any of them. Those to come
// are as the one that makes them.
func hastenAll() {
	tasks, _ := os.ReadDir("/proc/self/task") // without /proc, without
	for _, t := range tasks {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, soonest)
		}
	}
}
