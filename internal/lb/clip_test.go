package lb

import (
	"strings"
	"testing"
)

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  `""`,
		"192.0.2.1":                         `"192.0.2.1"`,
		"a\x1b[31m\nb":                      `"a\x1b[31m\nb"`,
		"\xff":                              `"\xff"`,
		strings.Repeat("a", 64):             `"` + strings.Repeat("a", 64) + `"`,
		strings.Repeat("a", 168000):         `"` + strings.Repeat("a", 64) + `"… (168000 bytes)`,
		strings.Repeat("a", 63) + "éé":      `"` + strings.Repeat("a", 63) + `"… (67 bytes)`,
		strings.Repeat("\xff", 64) + "tail": `""… (68 bytes)`,
	} {
		if got := Quote(in); got != want {
			t.Errorf("%.20q: %s, not %s", in, got, want)
		}
	}
}

// A Service that many pools refuse, or that names a pool by 168 kB, gets a short message.
func TestDecisionIsBounded(t *testing.T) {
	var d Decision
	for range 300 {
		d.Refusals = append(d.Refusals, Refusal{Pool: strings.Repeat("p", 200) + string(rune('a'+len(d.Refusals)%26)), Family: IPv4, Reason: ReasonExhausted, Count: len(d.Refusals)})
	}
	if s := d.String(); len(s) > 2000 || !strings.HasSuffix(s, "and 290 more") {
		t.Errorf("%d bytes: …%s", len(s), s[max(0, len(s)-80):])
	}
	huge := Decision{Refusals: []Refusal{{Pool: strings.Repeat("x", 168000), Reason: ReasonUnknownPool}, {Reason: ReasonClaimNotFound, Other: strings.Repeat("y", 168000)}}}
	if s := huge.String(); len(s) > 500 {
		t.Errorf("%d bytes", len(s))
	}
}
