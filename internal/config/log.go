package config

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Loggers returns two handlers that write JSON lines: one for our own of the
// level and above, and one for the libraries', which below debug level only lets
// warnings and errors through, so that info is for a person.
func Loggers(w io.Writer, level string) (own, libraries slog.Handler, err error) {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	l, ok := levels[strings.ToLower(level)]
	if !ok {
		return nil, nil, fmt.Errorf("--log-level: %q is not one of debug, info, warn, error", level)
	}
	at := func(l slog.Level) slog.Handler { return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l}) }
	if l == slog.LevelInfo {
		return at(l), at(slog.LevelWarn), nil
	}
	return at(l), at(l), nil
}
