package ui

import (
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/status"
)

// mostCells is how many addresses are shown one by one.
const mostCells = 1 << 14

// mostRuns is about how many runs a page can tell apart.
const mostRuns = 128

// Row is a part of a line of the map: a line is a block of as many addresses as the
// map has columns, and a pool need not have all of them.
type Row struct {
	At    netip.Addr `json:"at"`   // the first address of the block
	From  int        `json:"from"` // the first column that the pool has
	Count int        `json:"count"`
}

// Run is addresses in a row that are alike: none of them is in use, or many are.
type Run struct {
	From  netip.Addr `json:"from"`
	To    netip.Addr `json:"to"`
	Size  float64    `json:"size"`            // about how many that are: up to 2^128
	First int        `json:"first,omitempty"` // the first that is in use, in Pool.Addresses
	Used  int        `json:"used,omitempty"`  // how many are
	State State      `json:"st,omitempty"`    // the worst of theirs
}

// newPool lays out what a pool has of one family. Addresses that it has no more are
// in use still, and shown where they would be.
func newPool(c *cluster.Cluster, row status.Pool, held []Address) Pool {
	p := Pool{Pool: row, Addresses: held}
	parsed, err := kube.Pool(c.Pool(row.Name))
	if err != nil {
		return p // row.Says has the reason
	}
	ranges := slices.DeleteFunc(slices.Clone(parsed.Ranges), func(r lb.Range) bool { return lb.FamilyOf(r.From).String() != row.Family })
	for _, a := range held {
		if !parsed.Contains(a.Address) {
			ranges = append(ranges, lb.Range{From: a.Address, To: a.Address})
		}
	}
	slices.SortFunc(ranges, func(x, y lb.Range) int { return x.From.Compare(y.From) })
	size := 0.0
	for _, r := range ranges {
		size += sizeOf(r.From, r.To)
	}
	if size > mostCells {
		p.Runs = runs(ranges, held)
		return p
	}
	p.Columns = columns(int(size))
	p.rows(ranges, parsed.AvoidBuggyIPs)
	return p
}

// columns is how wide a map is best: a power of two, so that a line is a block.
func columns(cells int) int {
	switch {
	case cells <= 512:
		return 32
	case cells <= 4096:
		return 64
	default:
		return 128
	}
}

// rows lays the ranges out as lines, and gives held addresses their cells.
func (p *Pool) rows(ranges []lb.Range, avoidBuggy bool) {
	cell, next := 0, 0
	for _, r := range ranges {
		for a := r.From; ; a = a.Next() {
			column := int(a.AsSlice()[a.BitLen()/8-1]) % p.Columns
			if last := len(p.Rows) - 1; a == r.From || column == 0 {
				p.Rows = append(p.Rows, Row{At: back(a, column), From: column, Count: 1})
			} else {
				p.Rows[last].Count++
			}
			switch {
			case next < len(p.Addresses) && p.Addresses[next].Address == a:
				p.Addresses[next].Cell = cell
				next++
			case avoidBuggy && lb.Buggy(a):
				p.Avoided = append(p.Avoided, cell)
			}
			cell++
			if a == r.To {
				break
			}
		}
	}
}

// back returns the address that is n before a, and differs in the last byte only.
func back(a netip.Addr, n int) netip.Addr {
	b := a.AsSlice()
	b[len(b)-1] -= byte(n)
	out, _ := netip.AddrFromSlice(b) // it was one
	return out
}

// runs tells used parts of ranges from free ones. If there are very many, the smaller
// gaps between used addresses are counted in.
func runs(ranges []lb.Range, held []Address) (out []Run) {
	worth := gapWorth(ranges, held)
	for next, i := 0, 0; i < len(ranges); i++ {
		r := ranges[i]
		first := next
		for next < len(held) && r.Contains(held[next].Address) {
			next++
		}
		out = append(out, runsOf(r, held, first, next, worth)...)
	}
	return out
}

// gap is what is free between two addresses that are in use.
type gap struct {
	lb.Range
	next int // of held, which comes after it
}

// gaps returns what is free in the range: before, between and behind held[first:end].
func gaps(r lb.Range, held []Address, first, end int) (out []gap) {
	at := r.From
	for i := first; i < end; i++ {
		if a := held[i].Address; at.Less(a) {
			out = append(out, gap{lb.Range{From: at, To: a.Prev()}, i})
		}
		at = held[i].Address.Next()
	}
	if at.IsValid() && !r.To.Less(at) {
		out = append(out, gap{lb.Range{From: at, To: r.To}, end})
	}
	return out
}

// gapWorth is the size from which on a gap is shown as one.
func gapWorth(ranges []lb.Range, held []Address) float64 {
	var sizes []float64
	next := 0
	for _, r := range ranges {
		first := next
		for next < len(held) && r.Contains(held[next].Address) {
			next++
		}
		for _, g := range gaps(r, held, first, next) {
			sizes = append(sizes, sizeOf(g.From, g.To))
		}
	}
	if len(sizes) <= mostRuns/2 {
		return 1
	}
	slices.Sort(sizes)
	return sizes[len(sizes)-mostRuns/2] + 1 // of many that are alike, none
}

func runsOf(r lb.Range, held []Address, first, end int, worth float64) (out []Run) {
	at, from := r.From, first
	used := func(until int, to netip.Addr) {
		if until > from {
			run := Run{From: at, To: to, Size: sizeOf(at, to), First: from, Used: until - from}
			for _, a := range held[from:until] {
				run.State = max(run.State, a.State)
			}
			out = append(out, run)
		}
	}
	for _, g := range gaps(r, held, first, end) {
		size := sizeOf(g.From, g.To)
		if size < worth && end > first {
			continue
		}
		used(g.next, g.From.Prev())
		out = append(out, Run{From: g.From, To: g.To, Size: size})
		at, from = g.To.Next(), g.next
	}
	used(end, r.To)
	return out
}

// sizeOf is about how many addresses there are from one to another, both included.
func sizeOf(from, to netip.Addr) float64 {
	size := 0.0
	x, y := from.AsSlice(), to.AsSlice()
	for i := range x {
		size = size*256 + float64(y[i]) - float64(x[i])
	}
	return size + 1
}
