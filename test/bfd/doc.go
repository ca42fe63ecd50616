// Package bfd tests Fairlead's BFD against the kernel's network, in namespaces of
// its own, and against FRR's bfdd.
package bfd
