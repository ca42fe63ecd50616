package lab

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// logsEnv names a folder that gets the logs of labs in which a test failed.
const logsEnv = "FAIRLEAD_LAB_LOGS"

// Require skips a test where there can be no lab and says why. What can be
// installed is no reason to skip: the test fails and names the packages.
func Require(t testing.TB) {
	t.Helper()
	if err := unsuitable(); err != nil {
		t.Skip(err)
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
}

// New starts a lab for a test and closes it at the test's end. If the test
// failed, the ends of the logs are shown; FAIRLEAD_LAB_LOGS keeps all of them.
func New(t testing.TB, o Options) *Lab {
	t.Helper()
	Require(t)
	if o.Log == nil {
		o.Log = t.Logf
	}
	// Not the test's context: that ends before cleanups run, and then there
	// would be no logs left to show.
	l, err := Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("lab %s:\n%s", l.ID, l.LogTails(15))
			l.saveLogs(t)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *Lab) saveLogs(t testing.TB) {
	root := os.Getenv(logsEnv)
	if root == "" {
		return
	}
	to := filepath.Join(root, l.ID)
	if err := os.CopyFS(to, os.DirFS(filepath.Join(l.Dir, "logs"))); err != nil {
		t.Logf("save logs: %v", err)
		return
	}
	t.Logf("logs are in %s", to)
}

// Eventually waits until f returns nil, which it asks often, and fails the test
// with f's last error if it does not within that time.
func Eventually(t testing.TB, within time.Duration, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	err := poll(ctx, func(context.Context) (bool, error) {
		err := f()
		return err == nil, err
	})
	if err != nil {
		t.Fatalf("not within %v: %v", within, err)
	}
}
