package config

import (
	"strings"
	"testing"
)

func TestRange(t *testing.T) {
	tests := []struct {
		in   string
		want string // the range, or
		err  string // words of the error
	}{
		{in: "192.0.2.0/30", want: "192.0.2.0-192.0.2.3"},
		{in: "192.0.2.7/32", want: "192.0.2.7"},
		{in: "192.0.2.10-192.0.2.20", want: "192.0.2.10-192.0.2.20"},
		{in: " 192.0.2.10 - 192.0.2.20 ", want: "192.0.2.10-192.0.2.20"},
		{in: "192.0.2.10", want: "192.0.2.10"},
		{in: "2001:db8::/127", want: "2001:db8::-2001:db8::1"},
		{in: "2001:db8::1-2001:db8::f", want: "2001:db8::1-2001:db8::f"},
		{in: "::ffff:192.0.2.1", want: "192.0.2.1"},

		{in: "", err: `"" is not an IP address`},
		{in: "web", err: `"web" is not an IP address`},
		{in: "192.0.2.0/33", err: `"192.0.2.0/33" is not a CIDR; write for example`},
		{in: "192.0.2.1/24", err: `has host bits set; write "192.0.2.0/24"`},
		{in: "::ffff:192.0.2.0/120", err: "IPv4-mapped"},
		{in: "192.0.2.20-192.0.2.10", err: `ends before it begins; write "192.0.2.10-192.0.2.20"`},
		{in: "192.0.2.1-2001:db8::1", err: "mixes IPv4 and IPv6"},
		{in: "fe80::1%eth0", err: `has a zone; write it as fe80::1`},
		{in: "192.0.2.1-x", err: `"x" is not an IP address`},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := Range(tt.in)
			switch {
			case tt.err == "" && err != nil:
				t.Fatal(err)
			case tt.err == "" && got.String() != tt.want:
				t.Errorf("got %s, want %s", got, tt.want)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("got %v, %v; want an error with %q", got, err, tt.err)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	got, err := Addresses("192.0.2.1, 2001:db8::1")
	if err != nil || len(got) != 2 {
		t.Errorf("got %v, %v", got, err)
	}
	for in, want := range map[string]int{"": 0, " , ,": 0, "192.0.2.1,": 1, ",,2001:db8::1 ,\n": 1, "192.0.2.1,::ffff:192.0.2.1,2001:db8::1": 2} {
		if got, err := Addresses(in); err != nil || len(got) != want {
			t.Errorf("%q: %v, %v; want %d addresses", in, got, err, want)
		}
	}
	for in, words := range map[string]string{
		"192.0.2.1,192.0.2.2":       "two IPv4 addresses; a Service can have one of each family",
		`"192.0.2.1"`:               `"\"192.0.2.1\"" is not an IP address`,
		"192.0.2.1 192.0.2.2":       "is not an IP address",
		"192.0.2.1\n\x1b[31m":       `"192.0.2.1\n\x1b[31m" is not an IP address`,
		strings.Repeat("1", 168000): "(168000 bytes) is not an IP address",
		"192.0.2.0/24":              `"192.0.2.0/24" is not an IP address`,
	} {
		if _, err := Addresses(in); err == nil || !strings.Contains(err.Error(), words) || len(err.Error()) > 300 {
			t.Errorf("%.40q: %v; want an error with %q", in, err, words)
		}
	}
}

func TestPoolRanges(t *testing.T) {
	got, err := PoolRanges(
		[]string{"192.0.2.8/30", "192.0.2.0/29", "2001:db8::1-2001:db8::9"},
		[]string{"192.0.2.4", "2001:db8::1-2001:db8::3"},
	)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, r := range got {
		texts = append(texts, r.String())
	}
	want := "192.0.2.0-192.0.2.3 192.0.2.5-192.0.2.11 2001:db8::4-2001:db8::9"
	if s := strings.Join(texts, " "); s != want {
		t.Errorf("got %s, want %s: sorted, joined where they touch, excludes taken out", s, want)
	}
	if _, err := PoolRanges([]string{"192.0.2.0/24"}, []string{"192.0.2.0/24", "x"}); err == nil || !strings.Contains(err.Error(), "spec.excludes[1]") {
		t.Errorf("%v does not name the field", err)
	}
}

// What parses, prints as something that parses to the same.
func FuzzRange(f *testing.F) {
	for _, s := range []string{"192.0.2.0/24", "192.0.2.1-192.0.2.9", "2001:db8::/64", "::-::1", "1.1.1.1", "::ffff:1.2.3.4-1.2.3.5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Range(s)
		if err != nil {
			return
		}
		if r.To.Less(r.From) || r.From.BitLen() != r.To.BitLen() || r.From.Is4In6() || r.From.Zone() != "" {
			t.Fatalf("%q became %s", s, r)
		}
		again, err := Range(r.String())
		if err != nil || again != r {
			t.Fatalf("%q became %s, and that %s, %v", s, r, again, err)
		}
	})
}
