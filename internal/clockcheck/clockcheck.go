// Package clockcheck finds out whether this machine's clock is right, by that of the
// API server: each of its answers is dated (RFC 9110, 6.6.1).
//
// Fairlead itself needs no clock that is right. TLS and tokens do, and so does
// people who compare the times in logs, events and status.
package clockcheck

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/internal/notify"
)

const (
	// Tolerance is how far a clock may be off. Where NTP runs it is milliseconds, at
	// worst a second. Kubernetes' leases allow for 15 s, certificates and tokens for
	// minutes; and with five seconds a person still finds in two logs what belongs
	// together.
	Tolerance = 5 * time.Second
	// slow is how long an answer may have taken that is used: it is not known
	// when within that time it was dated.
	slow = 2 * time.Second
	// absurd is more than any clock is off, those included that begin in 1970.
	absurd = 100 * 365 * 24 * time.Hour
	// askEvery is how often KeepAsking asks. Watches are restarted only every five to ten
	// minutes each; a thousand nodes are seventeen small requests a second.
	askEvery = time.Minute
	// askWithin bounds the wait for an answer, which would say nothing any more.
	askWithin = 5 * time.Second
)

// Verdict is what is known of this machine's clock.
type Verdict struct {
	Known bool
	Ahead time.Duration // of the API server's clock, roughly; negative if behind, 0 within Tolerance
}

// span says how far this clock is ahead of another, at least and at most.
type span struct{ least, most time.Duration }

// spanOf returns how far this clock is ahead, by an answer that came now and took so
// long. Dates are whole seconds: at some moment meanwhile the other clock was in
// [date, date+1s).
func spanOf(date, now time.Time, took time.Duration) span {
	most := now.Sub(date)
	return span{least: most - took - time.Second, most: most}
}

// after returns what is known after another answer. A clock that stays as it is off
// never gets both verdicts: each is certain, or the one before stands.
func (v Verdict) after(s span) Verdict {
	switch {
	case s.least > Tolerance || s.most < -Tolerance:
		middle := (s.least + s.most) / 2
		if v.Ahead != 0 && Alike(v.Ahead, middle) {
			return v // or what is said would never come to rest
		}
		return Verdict{Known: true, Ahead: rounded(middle)}
	case s.least >= -Tolerance && s.most <= Tolerance:
		return Verdict{Known: true}
	default:
		return v
	}
}

// rounded leaves of an offset what matters to a person.
func rounded(d time.Duration) time.Duration {
	switch a := d.Abs(); {
	case a < time.Minute:
		return d.Round(time.Second)
	case a < 10*time.Minute:
		return d.Round(5 * time.Second)
	default:
		return d.Round(time.Minute)
	}
}

// Alike reports whether two offsets may be one and the same: an answer tells them to
// a second and a half, and then they are rounded.
func Alike(x, y time.Duration) bool {
	return (x - y).Abs() <= max(4*time.Second, max(x.Abs(), y.Abs())/10)
}

// Words says how far a clock is ahead: "1m30s ahead of", or "1m30s behind".
func Words(ahead time.Duration) string {
	s := ahead.Abs().String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if ahead < 0 {
		return s + " behind"
	}
	return s + " ahead of"
}

// Watch reads the dates of the API server's answers.
type Watch struct {
	changed notify.Signal

	mu      sync.Mutex
	verdict Verdict // guarded by mu
}

// New returns a Watch that knows nothing yet.
func New() *Watch { return &Watch{changed: notify.New()} }

// Verdict returns what is known now.
func (w *Watch) Verdict() Verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.verdict
}

// Changed is poked when the verdict is another.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Wrap has w read the answers that come by a connection to the API server.
func (w *Watch) Wrap(next http.RoundTripper) http.RoundTripper { return reader{next, w} }

type reader struct {
	next  http.RoundTripper
	watch *Watch
}

// RoundTrip returns as soon as an answer's header is there, also that of a watch.
func (r reader) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := time.Now()
	res, err := r.next.RoundTrip(req)
	if err == nil {
		r.watch.note(res, sent)
	}
	return res, err
}

// note takes in an answer. The latest that is certain decides: a clock is fixed
// while this runs, and a machine sleeps.
func (w *Watch) note(res *http.Response, sent time.Time) {
	date, ok := dateOf(res)
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	// What runs evenly stands still while the machine sleeps; the other is set
	// meanwhile, perhaps.
	took := max(now.Sub(sent), now.Round(0).Sub(sent.Round(0)))
	if !ok || took > slow || now.Sub(date).Abs() > absurd {
		return
	}
	if v := w.verdict.after(spanOf(date, now, took)); v != w.verdict {
		w.verdict = v
		w.changed.Poke()
	}
}

// dateOf returns when the API server says that it answered. It has not, if the
// answer comes from a cache; and an error of its side may be the word of a load
// balancer, which has a clock of its own.
func dateOf(res *http.Response) (time.Time, bool) {
	if res.StatusCode >= http.StatusInternalServerError || res.Header.Get("Age") != "" {
		return time.Time{}, false
	}
	date, err := http.ParseTime(res.Header.Get("Date"))
	return date, err == nil
}

// KeepAsking asks the API server something at once, and so often until ctx ends that
// a clock which is set wrong, or right, is not unnoticed for long on a quiet cluster.
// What it answers does not matter: refusals are dated, too.
func KeepAsking(ctx context.Context, ask func(context.Context)) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, askWithin)
		ask(attempt)
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
