package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/test/lab"
)

// TestDemo: what the README promises of `make demo` happens.
func TestDemo(t *testing.T) {
	l := lab.New(t, lab.Options{})
	t.Chdir("../../../..") // where make runs
	var out bytes.Buffer
	err := (&demo{story: &story{out: &out, began: time.Now()}, lab: l}).play(t.Context())
	t.Logf("the demo:\n%s", out.String())
	if err != nil {
		t.Fatal(err)
	}
}

func TestStory(t *testing.T) {
	var out strings.Builder
	s := &story{out: &out, began: time.Now().Add(-3100 * time.Millisecond)}
	s.say("apply", "$ kubectl apply -f %s", "web.yaml")
	s.show("service/web created\n\nmore\n")
	s.show("\n")
	s.say("announce", "n1\nand why")
	want := `  3.1 s  apply     $ kubectl apply -f web.yaml
                   service/web created

                   more
  3.1 s  announce  n1
                   and why
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
