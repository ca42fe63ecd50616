package lab

import (
	"context"
	"errors"
	"net/netip"
)

func (f frr) sessions(ctx context.Context) ([]BGPSession, error) { return nil, errors.ErrUnsupported }
func (f frr) paths(ctx context.Context) (map[netip.Prefix][]BGPPath, error) {
	return nil, errors.ErrUnsupported
}
func (f frr) bfd(ctx context.Context) ([]BFDSession, error) { return nil, errors.ErrUnsupported }
func (f bird) sessions(ctx context.Context) ([]BGPSession, error) { return nil, errors.ErrUnsupported }
func (f bird) paths(ctx context.Context) (map[netip.Prefix][]BGPPath, error) {
	return nil, errors.ErrUnsupported
}
func (f bird) bfd(ctx context.Context) ([]BFDSession, error) { return nil, errors.ErrUnsupported }
