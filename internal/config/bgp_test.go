package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

func TestCommunity(t *testing.T) {
	tests := []struct {
		in   string
		want lb.Community
		err  string
	}{
		{in: "65000:1", want: lb.Community{A: 65000, B: 1}},
		{in: "0:0", want: lb.Community{}},
		{in: "large:4294967295:1:2", want: lb.Community{Large: true, A: 4294967295, B: 1, C: 2}},
		{in: "no-export", want: lb.Community{A: 65535, B: 65281}},
		{in: "blackhole", want: lb.Community{A: 65535, B: 666}},
		{in: "graceful-shutdown", want: lb.Community{A: 65535}},

		{in: "65536:1", err: `write a large community instead, such as "large:65536:1:0"`},
		{in: "65000:1:2", err: `write "large:65000:1:2"`},
		{in: "large:1:2", err: `has 2 numbers, and a large community has three`},
		{in: "large:1:2:4294967296", err: `"4294967296" is not a number of 32 bits`},
		{in: "65000:x", err: `"x" is not a number of 16 bits`},
		{in: "-1:2", err: `"-1" is not a number`},
		{in: "no_export", err: `write two numbers like "65000:1", three like "large:65000:1:2", or one of accept-own, blackhole`},
		{in: "", err: `"" is not a community`},
		{in: "1", err: `"1" is not a community`},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := Community(tt.in)
			switch {
			case tt.err == "" && (err != nil || got != tt.want):
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("got %v, %v; want an error with %q", got, err, tt.err)
			}
		})
	}
}

func TestCommunities(t *testing.T) {
	aliases := map[string]lb.Community{"backup": {A: 65000, B: 80}}
	got, err := Communities([]string{"large:1:2:3", "backup", "65000:1", "65000:80"}, aliases)
	want := []lb.Community{{A: 65000, B: 1}, {A: 65000, B: 80}, {Large: true, A: 1, B: 2, C: 3}}
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %v, %v; want %v: sorted, each once", got, err, want)
	}
	_, err = Communities([]string{"backup", "primary"}, aliases)
	if err == nil || !strings.Contains(err.Error(), `[1]: no Community defines the alias "primary"`) {
		t.Errorf("%v does not say what is missing", err)
	}
}

// What parses, prints as something that parses to the same.
func FuzzCommunity(f *testing.F) {
	for _, s := range []string{"65000:1", "large:1:2:3", "no-export", "1:2:3", "internet"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Community(s)
		if err != nil {
			return
		}
		again, err := Community(c.String())
		if err != nil || again != c {
			t.Fatalf("%q became %s, and that %s, %v", s, c, again, err)
		}
	})
}
