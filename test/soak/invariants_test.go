package soak

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	lan4, lan6, free = netip.MustParseAddr("172.30.0.100"), netip.MustParseAddr("fd30::100"), netip.MustParseAddr("172.30.0.101")
	bgp4             = netip.MustParseAddr("10.30.0.1")
	route4           = netip.PrefixFrom(bgp4, 32)
)

// good is an observation in which nothing is wrong.
func good() *Observation {
	assigned := Condition{True: true, Message: "Assigned: …"}
	return &Observation{
		Nodes: []string{"n1", "n2"},
		Services: []Service{
			{
				Name: "web", UID: "1", Families: 2, Addresses: []netip.Addr{lan4, lan6}, Assigned: assigned,
				Announced: Condition{True: true, Message: "Announced: 172.30.0.100 by layer 2 from n1 (eth0); fd30::100 by layer 2 from n2 (eth0)"},
			},
			{
				Name: "public", UID: "2", Families: 1, BGP: true, Addresses: []netip.Addr{bgp4}, Assigned: assigned,
				Announced: Condition{True: true, Message: "Announced: 10.30.0.1 by BGP from n1, n2 to r2, r3"},
			},
		},
		Asked:   []netip.Addr{lan4, free, lan6},
		Answers: map[netip.Addr][]string{lan4: {"n1"}, lan6: {"n2"}},
		Routes:  map[string]map[netip.Prefix][]string{"r2": {route4: {"n1", "n2"}}},
		Speakers: map[string]Speaker{
			"n1": {Ready: Condition{True: true}, Members: 2, Owns: []netip.Addr{lan4}},
			"n2": {Ready: Condition{True: true}, Members: 2, Owns: []netip.Addr{lan6}},
		},
		Unserved: map[netip.Addr]string{},
	}
}

func TestNothingIsWrongWithAGoodObservation(t *testing.T) {
	if wrong := violations(good()); len(wrong) > 0 {
		t.Errorf("violations of a good observation: %v", wrong)
	}
}

// Each invariant can fail: a forged observation makes it, and says what is wrong.
func TestInvariantsFail(t *testing.T) {
	tests := []struct {
		why   string
		forge func(*Observation)
		want  string // a violation that begins like this
	}{
		{"a speaker crashed", func(o *Observation) { o.Ended = []string{"speaker-n1"} }, "speakers run: speaker-n1"},
		{"no Speaker", func(o *Observation) { delete(o.Speakers, "n2") }, "speakers are ready: there is no Speaker n2"},
		{"not Ready", func(o *Observation) { o.speaker("n1", func(s *Speaker) { s.Ready.True = false }) }, "speakers are ready: Speaker n1 is not Ready"},
		{"a partition that did not heal", func(o *Observation) { o.speaker("n1", func(s *Speaker) { s.Members = 1 }) }, "speakers are ready: speaker n1 takes 1 of 2"},
		{"nothing to look at", func(o *Observation) { o.Services = nil }, "services have addresses: there is no Service"},
		{"an address is missing", func(o *Observation) { o.Services[0].Addresses = o.Services[0].Addresses[:1] }, "services have addresses: web wants 2"},
		{"an address, and a condition that denies it", func(o *Observation) { o.Services[0].Assigned.True = false }, "services have addresses: web wants 2"},
		{"two Services with one address", func(o *Observation) { o.Services[1].Addresses = []netip.Addr{lan4} }, "no address is assigned twice: public has 172.30.0.100"},
		{"nobody answers", func(o *Observation) { delete(o.Answers, lan4) }, "one node answers: [] answer for 172.30.0.100"},
		{"two answer", func(o *Observation) { o.Answers[lan4] = []string{"n1", "n2"} }, "one node answers: [n1 n2] answer for 172.30.0.100"},
		{"a foreign host answers", func(o *Observation) { o.Answers[lan4] = []string{"02:00:00:00:00:99"} }, "one node answers: 02:00:00:00:00:99 answers for"},
		{"a free address is answered for", func(o *Observation) { o.Answers[free] = []string{"n2"} }, "one node answers: [n2] answer for 172.30.0.101, which no Service has"},
		{"an address that nobody was asked for", func(o *Observation) { o.Asked = o.Asked[1:] }, "one node answers: 172.30.0.100 of a Service"},
		{"an owner on paper only", func(o *Observation) { o.speaker("n2", func(s *Speaker) { s.Owns = []netip.Addr{lan4, lan6} }) }, "objects name the node that answers: Speaker n2 lists"},
		{"an owner that lists nothing", func(o *Observation) { o.speaker("n1", func(s *Speaker) { s.Owns = nil }) }, "objects name the node that answers: Speaker n1 lists"},
		{"no router", func(o *Observation) { o.Routes = nil }, "routers have the routes: no router"},
		{"a route is missing", func(o *Observation) { delete(o.Routes["r2"], route4) }, "routers have the routes: r2 leads to 10.30.0.1/32 via []"},
		{"a next hop is missing", func(o *Observation) { o.Routes["r2"][route4] = []string{"n1"} }, "routers have the routes: r2 leads to 10.30.0.1/32 via [n1]"},
		{"a route stayed", func(o *Observation) { o.Routes["r2"][netip.MustParsePrefix("10.30.0.9/32")] = []string{"n1"} }, "routers have the routes: r2 has a route to 10.30.0.9/32"},
		{"a condition is False", func(o *Observation) { o.Services[0].Announced.True = false }, "conditions are true: web is not Announced"},
		{"a condition names another node", func(o *Observation) {
			o.Services[0].Announced.Message = "Announced: 172.30.0.100 by layer 2 from n2 (eth0); fd30::100 by layer 2 from n2 (eth0)"
		}, "conditions are true: web: the condition names [n2] for 172.30.0.100"},
		{"a condition leaves a node out", func(o *Observation) {
			o.Services[1].Announced.Message = "Announced: 10.30.0.1 by BGP from n1 to r2 (not from n2: no session)"
		}, "conditions are true: public: the condition names [n1] for 10.30.0.1"},
		{"a condition of another address", func(o *Observation) {
			o.Services[1].Announced.Message = "Announced: 10.30.0.10 by BGP from n1, n2 to r2"
		}, "conditions are true: public: the condition names [] for 10.30.0.1"},
		{"a client gets no answer", func(o *Observation) { o.Unserved[lan6] = "web from client: timeout" }, "clients are served: fd30::100: web from client"},
	}
	failed := map[string]bool{}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			o := good()
			tt.forge(o)
			wrong := violations(o)
			if !slices.ContainsFunc(wrong, func(w string) bool { return strings.HasPrefix(w, tt.want) }) {
				t.Errorf("violations are %q, want one that begins with %q", wrong, tt.want)
			}
		})
		name, _, _ := strings.Cut(tt.want, ":")
		failed[name] = true
	}
	for _, i := range invariants {
		if !failed[i.name] {
			t.Errorf("no forged observation makes the invariant %q fail", i.name)
		}
	}
}

func (o *Observation) speaker(name string, change func(*Speaker)) {
	s := o.Speakers[name]
	change(&s)
	o.Speakers[name] = s
}

func TestRenumbered(t *testing.T) {
	before := good()
	first := map[string]Service{"1": before.Services[0]}
	if wrong := renumbered(first, good()); len(wrong) > 0 {
		t.Errorf("nothing changed, got %v", wrong)
	}
	after := good()
	after.Services[0].Addresses = []netip.Addr{free, lan6}
	if diff := cmp.Diff([]string{"nothing is renumbered: web had [172.30.0.100 fd30::100] and has [172.30.0.101 fd30::100]"}, renumbered(first, after)); diff != "" {
		t.Error(diff)
	}
	after.Services[0].UID = "3" // deleted and created: another Service
	if wrong := renumbered(first, after); len(wrong) > 0 {
		t.Errorf("another Service of the same name has another address, got %v", wrong)
	}
}

func TestGrowth(t *testing.T) {
	steady := Usage{Goroutines: 100, Descriptors: 50, Memory: 60 << 20}
	repeat := func(u Usage, n int) []Usage { return slices.Repeat([]Usage{u}, n) }
	for _, tt := range []struct {
		why  string
		all  []Usage
		want string // words; "" for none
	}{
		{"steady", repeat(steady, 9), ""},
		{"goroutines leak", slices.Concat(repeat(steady, 6), repeat(Usage{Goroutines: 160, Descriptors: 50, Memory: 60 << 20}, 3)), "from 100 to 160 goroutines"},
		{"descriptors leak", slices.Concat(repeat(steady, 6), repeat(Usage{Goroutines: 100, Descriptors: 80, Memory: 60 << 20}, 3)), "from 50 to 80 file descriptors"},
		{"memory leaks", slices.Concat(repeat(steady, 6), repeat(Usage{Goroutines: 100, Descriptors: 50, Memory: 120 << 20}, 3)), "bytes of memory"},
		{"one reading stands out", slices.Concat(repeat(steady, 8), repeat(Usage{Goroutines: 900, Descriptors: 900, Memory: 900 << 20}, 1)), ""},
		{"too few readings", slices.Concat(repeat(steady, 2), repeat(Usage{Goroutines: 900, Descriptors: 50, Memory: 60 << 20}, 2)), ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			got := growth(map[string][]Usage{"speaker-n1": tt.all})
			if (len(got) > 0) != (tt.want != "") || len(got) > 0 && !strings.Contains(got[0], tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestUsageIsReadFromMetrics(t *testing.T) {
	const text = "# HELP go_goroutines …\ngo_goroutines 42\ngo_info{version=\"go1.26\"} 1\nprocess_open_fds 12\nprocess_resident_memory_bytes 6.1e+07\n"
	metrics, err := parseMetrics(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := usageOf(metrics)
	if err != nil || got != (Usage{42, 12, 6.1e7}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := usageOf(map[string]float64{"go_goroutines": 42}); err == nil {
		t.Error("a process without a metric is no error")
	}
}
