//go:build !linux

package lab

import (
	"errors"
	"io"
	"os/exec"
)

// These let everything that uses the lab compile, and its tests skip, where
// there are no namespaces. Nothing gets here: check refuses first.

func mayMakeNamespaces() bool { return false }

func enterNetns(string) error { return errors.ErrUnsupported }

func newNamespaces(*exec.Cmd) {}

func enterMachine(int) error { return errors.ErrUnsupported }

func waitForExit(int) {}

func listenPacket(string, uint16) (packetConn, error) { return nil, errors.ErrUnsupported }

func listenRoutes() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }

func dumpRoutes() ([]routeNews, error) { return nil, errors.ErrUnsupported }

func interfaceNames() map[uint32]string { return nil }

func parseRoutes([]byte, map[uint32]string) ([]routeNews, error) { return nil, errors.ErrUnsupported }
