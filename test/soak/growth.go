package soak

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Usage is what a process uses, as its metrics say.
type Usage struct {
	Goroutines, Descriptors, Memory float64
}

func (u Usage) plus(v Usage) Usage {
	return Usage{u.Goroutines + v.Goroutines, u.Descriptors + v.Descriptors, u.Memory + v.Memory}
}

// parseMetrics reads Prometheus' text format.
func parseMetrics(r io.Reader) (map[string]float64, error) {
	out := map[string]float64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, text, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") || strings.Contains(name, "{") {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
		out[name] = value
	}
	return out, lines.Err()
}

func usageOf(metrics map[string]float64) (Usage, error) {
	for _, name := range []string{"go_goroutines", "process_open_fds", "process_resident_memory_bytes"} {
		if metrics[name] == 0 {
			return Usage{}, fmt.Errorf("there is no metric %s", name)
		}
	}
	return Usage{metrics["go_goroutines"], metrics["process_open_fds"], metrics["process_resident_memory_bytes"]}, nil
}

// allowed is how much more than in the first rounds a process may use in the last ones:
// a share, and an amount for what differs from calm to calm.
var allowed = []struct {
	what   string
	of     func(Usage) float64
	factor float64
	plus   float64
}{
	{"goroutines", func(u Usage) float64 { return u.Goroutines }, 1.2, 20},
	{"file descriptors", func(u Usage) float64 { return u.Descriptors }, 1.2, 10},
	{"bytes of memory", func(u Usage) float64 { return u.Memory }, 1.5, 16 << 20},
}

// fewestReadings is how many readings of a process say something about growth: their
// first and last thirds are compared.
const fewestReadings = 6

// growth compares the medians of a process's readings in its first and last third of
// all calms.
func growth(readings map[string][]Usage) (out []string) {
	for _, process := range slices.Sorted(maps.Keys(readings)) {
		all := readings[process]
		if len(all) < fewestReadings {
			continue
		}
		third := len(all) / 3
		for _, a := range allowed {
			before, after := median(all[:third], a.of), median(all[len(all)-third:], a.of)
			if after > before*a.factor+a.plus {
				out = append(out, fmt.Sprintf("%s grew from %.0f to %.0f %s in %d rounds", process, before, after, a.what, len(all)))
			}
		}
	}
	return out
}

func median(all []Usage, of func(Usage) float64) float64 {
	var values []float64
	for _, u := range all {
		values = append(values, of(u))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
