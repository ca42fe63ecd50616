package bench

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/test/lab"
)

var soak = flag.Duration("soak", time.Minute, "how long BenchmarkSoak, BenchmarkBGPSoak and BenchmarkBFDLoad last; an hour says something")

// BenchmarkSoak keeps all processors busy and counts what moves, which nothing
// should: no speaker fails.
//
//	go test ./test/bench -run '^$' -bench Soak -benchtime 1x -timeout 2h -soak=1h
func BenchmarkSoak(b *testing.B) {
	const nodes, services = 3, 30
	l, c := up(b, nodes)
	for i := range services {
		svc := service(fmt.Sprint("soak-", i))
		for _, o := range []client.Object{svc, endpoint(svc.Name, l.Nodes[i%nodes].Name)} {
			if err := c.Create(b.Context(), o); err != nil {
				b.Fatal(err)
			}
		}
	}
	lab.Eventually(b, time.Minute, func() error {
		for i := range services {
			svc := service(fmt.Sprint("soak-", i))
			if err := c.Get(b.Context(), client.ObjectKeyFromObject(svc), svc); err != nil {
				return err
			}
			if len(kube.IngressAddresses(svc)) == 0 {
				return fmt.Errorf("%s has no address yet", svc.Name)
			}
		}
		if n := said(b, l, `"announcing"`); n < services {
			return fmt.Errorf("%d of %d addresses are announced", n, services)
		}
		return nil
	})
	before, lapsed := said(b, l, `"announcing"`), said(b, l, "stood still")
	for i := range runtime.NumCPU() {
		if _, err := l.Client.Start(fmt.Sprint("busy-", i), "sh", "-c", "while :; do :; done"); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		select {
		case <-time.After(*soak):
		case <-b.Context().Done():
		}
	}
	b.ReportMetric(soak.Minutes(), "minutes")
	b.ReportMetric(float64(said(b, l, `"announcing"`)-before), "moves")
	b.ReportMetric(float64(said(b, l, "stood still")-lapsed), "lapses")
}

// endpoint is a ready endpoint of a Service on a node, with nothing behind it.
func endpoint(svc, node string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: svc, Labels: map[string]string{discoveryv1.LabelServiceName: svc}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.201.0.1"}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
	}
}

// said counts the lines of all speakers' logs that have some words.
func said(b *testing.B, l *lab.Lab, words string) (n int) {
	b.Helper()
	for _, node := range l.Nodes {
		text, err := os.ReadFile(l.Process("speaker-" + node.Name).Log())
		if err != nil {
			b.Fatal(err)
		}
		n += strings.Count(string(text), words)
	}
	return n
}
