package term

import (
	"strings"
	"testing"
)

func TestBar(t *testing.T) {
	for _, c := range []struct {
		used, whole float64
		want, why   string
	}{
		{0, 10, "░░░░", "nothing is used"},
		{1, 1000, "█░░░", "something is used"},
		{5, 10, "██░░", "half is used"},
		{10, 10, "████", "all is used"},
		{12, 10, "████", "more is used than there is, as when a pool was made smaller"},
		{0, 0, "░░░░", "there is nothing to use"},
	} {
		if got := Bar(c.used, c.whole, 4); got != c.want {
			t.Errorf("%v of %v is %s, want %s, as %s", c.used, c.whole, got, c.want, c.why)
		}
	}
}

// What a user of the cluster writes into an object does not command an admin's
// terminal.
func TestPageEscapes(t *testing.T) {
	for name, colour := range map[string]bool{"with colours": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			p := &Page{w: &b, colour: colour}
			p.Line(In(Plain, "a\x1b[2Jb"))
			p.Table(0, nil, [][]Text{{In(Plain, "c\rd\ne"), In(Bad, "f\x1b]0;g")}})
			p.Field("label\x1b", Say("h"))
			if got := strings.NewReplacer("\x1b[31m", "", "\x1b[0m", "", "\x1b[2m", "").Replace(b.String()); strings.ContainsAny(got, "\x1b\r") {
				t.Errorf("it wrote %q", got)
			}
		})
	}
}

func TestTableAligns(t *testing.T) {
	var b strings.Builder
	p := &Page{w: &b, colour: true}
	p.Table(2, []string{"A", "B"}, [][]Text{{In(Good, "été"), Say("x")}, {Say("longer"), Say("")}})
	got := strings.NewReplacer("\x1b[32m", "", "\x1b[0m", "", "\x1b[2m", "").Replace(b.String())
	if want := "  A       B\n  été     x\n  longer\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
