//go:build !linux

package bfd

import (
	"errors"
	"time"
)

// kernel is one that this package does not know.
type kernel struct{}

func newKernel() network { return kernel{} }

var errUnsupported = errors.New("only Linux is supported")

func (kernel) Open() (Priority, error)            { return 0, errUnsupported }
func (kernel) Listen(socketKey) (listener, error) { return nil, errUnsupported }
func (kernel) Dial(path, uint16) (sender, error)  { return nil, errUnsupported }
func (kernel) Wait(time.Time)                     {}
func (kernel) Wake()                              {}
func (kernel) Close()                             {}

func hastenAll() {}
