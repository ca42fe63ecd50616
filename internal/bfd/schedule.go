package bfd

import (
	"container/heap"
	"time"
)

// schedule is the peers that wait for a time, the earliest first.
type schedule []*peer

// set puts a peer where its next deadline belongs; one that has none waits for
// nothing.
func (s *schedule) set(p *peer, at time.Time, ok bool) {
	p.deadline = at
	switch {
	case !ok:
		s.drop(p)
	case p.index < 0:
		heap.Push(s, p)
	default:
		heap.Fix(s, p.index)
	}
}

func (s *schedule) drop(p *peer) {
	if p.index >= 0 {
		heap.Remove(s, p.index)
	}
}

// first returns the peer whose deadline is the earliest, or nil.
func (s schedule) first() *peer {
	if len(s) == 0 {
		return nil
	}
	return s[0]
}

// Len is for container/heap, as are the next four.
func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].deadline.Before(s[j].deadline) }

func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

// Push is not for others than container/heap.
func (s *schedule) Push(x any) {
	p := x.(*peer)
	p.index = len(*s)
	*s = append(*s, p)
}

// Pop is not for others than container/heap.
func (s *schedule) Pop() any {
	last := len(*s) - 1
	p := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	p.index = -1
	return p
}
