package bfd

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Values of nice, the lower the sooner.
const (
	ordinary = 0
	// sooner is for the program's other threads. The timers' thread can come to
	// wait for any of them, when Go's collector stops the world or when all of Go's
	// processors are taken, and then for as long as that one waits for a core.
	// Besides, they are who acts on what BFD finds.
	sooner = -10
	// soonest is for the timers' thread where it cannot be real-time.
	soonest = -20
)

// hasten lets the thread that calls it run before all others, and the program
// before other programs, as far as that is permitted. A thread that it would
// fork would be an ordinary one.
func hasten() (Priority, func()) {
	renice(sooner)
	relax := func() { renice(ordinary) }
	attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if unix.SchedSetAttr(0, attr, 0) == nil {
		return PriorityRealTime, func() {
			_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
			relax()
		}
	}
	if unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), soonest) == nil {
		return PriorityNice, relax
	}
	return PriorityNormal, relax
}

// renice changes all threads of the program. Those to come are as the one that
// makes them.
func renice(nice int) {
	tasks, _ := os.ReadDir("/proc/self/task") // without /proc, without
	for _, t := range tasks {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, nice)
		}
	}
}
