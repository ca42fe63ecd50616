package main

import (
	"io"
	"strings"
	"testing"
)

func TestInvalidFlags(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	tests := []struct {
		args string
		want string
	}{
		{"--log-level loud", `--log-level: "loud" is not one of debug, info, warn, error`},
		{"--leader-elect=perhaps", "invalid boolean value"},
		{"--kubeconfig /does/not/exist", "/does/not/exist"},
		{"", "set --kubeconfig, or run in a pod"},
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
