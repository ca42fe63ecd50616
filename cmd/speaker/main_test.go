package main

import (
	"io"
	"strings"
	"testing"
)

func TestInvalidFlags(t *testing.T) {
	t.Setenv("NODE_NAME", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	tests := []struct {
		args string
		want string
	}{
		{"", "--node-name: set it to the name of the Node on which this speaker runs, or set $NODE_NAME"},
		{"--node-name n1 --gossip-port 0", "--gossip-port: 0 is not a port; use 1 to 65535"},
		{"--node-name n1 --gossip-port 65536", "--gossip-port: 65536 is not a port"},
		{"--node-name n1 --log-level loud", `--log-level: "loud" is not one of debug, info, warn, error`},
		{"--node-name n1", "set --kubeconfig, or run in a pod"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			err := run(t.Context(), strings.Fields(tt.args), io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}
