// Package allocator decides which address a Service gets.
//
// It is pure: it knows no clock, no Kubernetes and does no I/O; time is an
// argument, and the same calls give the same answers. One goroutine at a time
// may use an Allocator.
package allocator
