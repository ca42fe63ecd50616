package clockcheck

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestVerdict(t *testing.T) {
	off := func(ahead time.Duration) Verdict { return Verdict{Known: true, Ahead: ahead} }
	inSync := off(0)
	for _, c := range []struct {
		why    string
		before Verdict
		now    time.Duration // after noon, the date of the answer
		took   time.Duration
		want   Verdict
	}{
		{"the same second", Verdict{}, 400 * time.Millisecond, 0, inSync},
		{"a second apart, as the answer was on its way", Verdict{}, time.Second, 200 * time.Millisecond, inSync},
		{"as late as it may be", Verdict{}, Tolerance, 0, inSync},
		{"perhaps in sync, perhaps not", Verdict{}, Tolerance + time.Second, 0, Verdict{}},
		{"perhaps not in sync, and it was", inSync, Tolerance + time.Second, 0, inSync},
		{"perhaps in sync, and it was not", off(9 * time.Second), Tolerance + time.Second, 0, off(9 * time.Second)},
		{"just too late", Verdict{}, Tolerance + time.Second + 1, 0, off(6 * time.Second)}, // 5 to 6 s
		{"too late, or a slow answer", Verdict{}, Tolerance + time.Second + 1, time.Second, Verdict{}},
		{"as early as it may be", Verdict{}, time.Second - Tolerance, 0, inSync},
		{"perhaps too early", Verdict{}, -Tolerance, 0, Verdict{}},
		{"just too early", Verdict{}, -Tolerance - 1, 0, off(-6 * time.Second)},
		{"far ahead", Verdict{}, 90 * time.Second, 100 * time.Millisecond, off(90 * time.Second)},
		{"far behind", inSync, -90 * time.Second, 100 * time.Millisecond, off(-90 * time.Second)},
		{"an hour, of a time zone", Verdict{}, time.Hour + 300*time.Millisecond, 0, off(time.Hour)},
		{"by another second: what is said stays", off(90 * time.Second), 93 * time.Second, 0, off(90 * time.Second)},
		{"by so much more that it matters", off(90 * time.Second), 110 * time.Second, 0, off(110 * time.Second)},
		{"from behind to ahead", off(-6 * time.Second), 7 * time.Second, 0, off(7 * time.Second)}, // 6 to 7 s
		{"fixed", off(90 * time.Second), 700 * time.Millisecond, 0, inSync},
	} {
		if got := c.before.after(spanOf(noon, noon.Add(c.now), c.took)); got != c.want {
			t.Errorf("%s: from %+v to %+v, want %+v", c.why, c.before, got, c.want)
		}
	}
}

// However the seconds fall, and however long answers take: what is said of a clock
// that stays as it is is true, and is said once and for all.
func TestVerdictIsTrueAndRests(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		ahead := time.Duration(r.Int64N(int64(10*Tolerance))) - 5*Tolerance
		if r.IntN(2) == 0 {
			ahead *= 1 + time.Duration(r.IntN(1000))
		}
		var v Verdict
		changes := 0
		for range 100 {
			dated := noon.Add(time.Duration(r.Int64N(int64(time.Hour)))) // by the API server's clock
			took := time.Duration(r.Int64N(int64(slow)))
			received := dated.Add(ahead).Add(time.Duration(r.Int64N(int64(took) + 1)))
			next := v.after(spanOf(dated.Truncate(time.Second), received, took))
			if next != v {
				changes++
			}
			v = next
			switch in := ahead.Abs() <= Tolerance; {
			case v.Known && in != (v.Ahead == 0):
				t.Fatalf("a clock that is %v ahead is said to be %+v", ahead, v)
			case v.Ahead != 0 && (v.Ahead-ahead).Abs() > 4*time.Second+ahead.Abs()/10:
				t.Fatalf("a clock that is %v ahead is said to be %v", ahead, v.Ahead)
			}
		}
		if changes > 1 {
			t.Errorf("what was said of a clock that is %v ahead changed %d times", ahead, changes)
		}
	}
}

func TestWords(t *testing.T) {
	for ahead, want := range map[time.Duration]string{
		6 * time.Second:             "6s ahead of",
		-90 * time.Second:           "1m30s behind",
		2 * time.Minute:             "2m ahead of",
		10 * time.Minute:            "10m ahead of",
		time.Hour:                   "1h ahead of",
		-(time.Hour + time.Minute):  "1h1m behind",
		49*time.Hour + 10*time.Hour: "59h ahead of",
	} {
		if got := Words(ahead); got != want {
			t.Errorf("%v is said as %q, want %q", ahead, got, want)
		}
	}
}

// roundTrip is a connection that a test answers by.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// What an answer says of the clock, and which says nothing.
func TestAnswers(t *testing.T) {
	behind := http.Header{"Date": {"Fri, 31 Dec 1999 23:58:30 GMT"}} // a synctest begins at midnight, 2000-01-01
	for _, c := range []struct {
		why    string
		header http.Header
		status int
		takes  time.Duration
		err    error
		want   Verdict
	}{
		{why: "dated", header: behind, status: 200, want: Verdict{Known: true, Ahead: 90 * time.Second}},
		{why: "a refusal is dated, too", header: behind, status: 403, want: Verdict{Known: true, Ahead: 90 * time.Second}},
		{why: "in sync", header: http.Header{"Date": {"Sat, 01 Jan 2000 00:00:00 GMT"}}, status: 200, want: Verdict{Known: true}},
		{why: "a slow answer", header: behind, status: 200, takes: slow + 1},
		{why: "no answer", err: errors.New("connection refused")},
		{why: "no date", header: http.Header{}, status: 200},
		{why: "not a date", header: http.Header{"Date": {"yesterday"}}, status: 200},
		{why: "a date of no clock", header: http.Header{"Date": {"Fri, 31 Dec 9999 23:59:59 GMT"}}, status: 200},
		{why: "from a cache", header: http.Header{"Date": behind["Date"], "Age": {"90"}}, status: 200},
		{why: "by a load balancer, for want of an API server", header: behind, status: 503},
	} {
		t.Run(c.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := New()
				api := w.Wrap(roundTrip(func(*http.Request) (*http.Response, error) {
					time.Sleep(c.takes) // on the clock of the test
					return &http.Response{StatusCode: c.status, Header: c.header, Body: http.NoBody}, c.err
				}))
				res, err := api.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
				if err == nil {
					res.Body.Close()
				}
				if !errors.Is(err, c.err) {
					t.Errorf("the error is %v, want %v", err, c.err)
				}
				if got := w.Verdict(); got != c.want {
					t.Errorf("the verdict is %+v, want %+v", got, c.want)
				}
				select {
				case <-w.Changed():
					if !c.want.Known {
						t.Error("it was poked for nothing")
					}
				default:
					if c.want.Known {
						t.Error("nobody was poked")
					}
				}
			})
		})
	}
}

// A real server's answers: the header of a watch counts, not its end, and a verdict
// follows the clock there and back.
func TestWatchOfServer(t *testing.T) {
	date := make(chan time.Duration, 1) // how far the server's clock is off
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, req *http.Request) {
		out.Header().Set("Date", time.Now().Add(<-date).UTC().Format(http.TimeFormat))
		out.(http.Flusher).Flush()
		<-req.Context().Done() // a watch does not end by itself
	}))
	t.Cleanup(server.Close)
	w := New()
	client := http.Client{Transport: w.Wrap(server.Client().Transport)}
	for _, step := range []struct {
		date time.Duration
		want time.Duration
	}{{0, 0}, {-time.Hour, time.Hour}, {time.Hour, -time.Hour}, {0, 0}} {
		date <- step.date
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := w.Verdict(), (Verdict{Known: true, Ahead: step.want}); got != want {
			t.Errorf("with a date %v off the verdict is %+v, want %+v", step.date, got, want)
		}
		res.Body.Close()
	}
}

// A clock that is set wrong while nobody asks for anything is noticed within a minute,
// and an API server that hangs does not end the asking.
func TestKeepAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		asked := 0
		done := make(chan struct{})
		go func() {
			KeepAsking(ctx, func(ctx context.Context) {
				asked++
				<-ctx.Done()
			})
			close(done)
		}()
		time.Sleep(10*askEvery + time.Second)
		synctest.Wait()
		if asked != 11 {
			t.Errorf("it asked %d times within ten minutes", asked)
		}
		cancel()
		<-done
	})
}
