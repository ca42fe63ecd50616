package moves

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/plugin/cli"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/reach"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
	"github.com/fairlead-lb/fairlead/internal/view"
)

// lookEvery is how often the speakers' objects are read while they do as they were
// told. They write them once a second at most.
const lookEvery = 200 * time.Millisecond

// Result is what was planned and what came of it.
type Result struct {
	Plan  Plan     `json:"plan"`
	Moved []Moved  `json:"moved,omitempty"`
	Says  []string `json:"says,omitempty"` // the speakers, of what they did
	Took  string   `json:"took,omitempty"`
	// Measured is what a drill saw of each move.
	Measured []Measured `json:"measured,omitempty"`
}

// Moved is an address that has another owner now.
type Moved struct {
	Move
	After string `json:"after"` // it was ordered
}

// Kind names the report.
func (r *Result) Kind() string { return "MoveReport" }

// Text writes nothing: a person was told as it happened.
func (r *Result) Text(*term.Page, bool) {}

// runner is one order as it is carried out.
type runner struct {
	o       *cli.Options
	client  client.Client
	cluster *cluster.Cluster
	page    *term.Page
	dialer  reach.Dialer // for drills
	result  Result

	yes, dry bool
	timeout  time.Duration
}

// begin reads the cluster.
func (r *runner) begin(ctx context.Context) (err error) {
	if r.client, err = r.o.Client(); err != nil {
		return err
	}
	out := r.o.Out
	if r.o.Machine() {
		out = r.o.ErrOut
	}
	r.page = term.NewPage(out)
	r.cluster, err = r.o.Read(ctx, r.client)
	return err
}

// propose says what will happen and asks. It reports whether to go on.
func (r *runner) propose(headline string, plan Plan) (bool, error) {
	r.result.Plan = plan
	r.page.Line(term.Say("%s", headline))
	var rows [][]term.Text
	for _, m := range plan.Moves {
		rows = append(rows, []term.Text{term.Say("%s", m.Address), term.Say("%s → %s", m.From, m.To), term.In(term.Faint, "%s", strings.Join(m.Services, ", "))})
	}
	r.page.Table(2, nil, rows)
	for _, s := range plan.Stays {
		r.page.Line(term.Say(" "), term.In(term.Warn, "%s stays: %s", s.Address, s.Why))
	}
	if plan.Routes.Before > plan.Routes.After {
		r.page.Line(term.Say("  routers are asked to prefer other nodes for %d of its %d routes, which are then withdrawn", plan.Routes.Before-plan.Routes.After, plan.Routes.Before))
	}
	if r.dry {
		return false, nil
	}
	return r.agree()
}

// agree asks whether to go on.
func (r *runner) agree() (bool, error) {
	if r.yes {
		return true, nil
	}
	if !printers.IsTerminal(r.o.In) {
		return false, errors.New("stdin is not a terminal; use --yes to proceed or --dry-run to preview")
	}
	fmt.Fprint(r.o.ErrOut, "Continue? [y/N] ")
	answer, err := bufio.NewReader(r.o.In).ReadString('\n')
	if err != nil {
		return false, fmt.Errorf("ask whether to continue: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	default:
		return false, nil
	}
}

// annotate writes an annotation on a Speaker, or removes it where value is nil.
func (r *runner) annotate(ctx context.Context, node, name string, value *string) error {
	sp := &v1alpha1.Speaker{}
	if err := r.client.Get(ctx, client.ObjectKey{Name: node}, sp); err != nil {
		return fmt.Errorf("get Speaker %s: %w", node, err)
	}
	before := sp.DeepCopy()
	if value == nil {
		delete(sp.Annotations, name)
	} else {
		sp.Annotations = maps.Clone(sp.Annotations)
		if sp.Annotations == nil {
			sp.Annotations = map[string]string{}
		}
		sp.Annotations[name] = *value
	}
	if err := r.client.Patch(ctx, sp, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("write annotation %s of Speaker %s: %w", name, node, err)
	}
	return nil
}

// follow shows addresses change their owners until done says that all is, and how
// long each took.
func (r *runner) follow(ctx context.Context, moves []Move, done func([]v1alpha1.Speaker) bool) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	seen := map[string]bool{}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var list v1alpha1.SpeakerList
		if err := r.client.List(ctx, &list); err != nil && ctx.Err() == nil {
			return fmt.Errorf("list Speakers: %w", err)
		}
		if ctx.Err() == nil {
			r.show(moved(r.cluster, list.Items, moves, seen), time.Since(began))
			if done(list.Items) {
				r.result.Took = seconds(time.Since(began))
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the move is not complete after %s; the speakers continue it: see kubectl fairlead status", seconds(time.Since(began)))
		case <-tick.C:
		}
	}
}

// moved returns those of the moves that have happened and were not seen before,
// with who really took the address.
func moved(c *cluster.Cluster, speakers []v1alpha1.Speaker, moves []Move, seen map[string]bool) (out []Move) {
	owners := view.New(view.Objects{Nodes: c.Nodes, Speakers: speakers}).Owners
	for _, m := range moves {
		address := m.Address.String()
		if o, owned := owners[address]; owned && o.Node != m.From && !seen[address] {
			seen[address] = true
			m.To = o.Node
			out = append(out, m)
		}
	}
	return out
}

func (r *runner) show(moves []Move, after time.Duration) {
	for _, m := range moves {
		r.result.Moved = append(r.result.Moved, Moved{m, seconds(after)})
		r.page.Line(term.In(term.Good, "✓"), term.Say("%s is announced by %s, after %s", m.Address, m.To, seconds(after)))
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// obeyed waits until a speaker has heeded an order and returns what it says of it.
func (r *runner) obeyed(ctx context.Context, node, order string, moves []Move) error {
	var said string
	refused := false
	err := r.follow(ctx, moves, func(speakers []v1alpha1.Speaker) bool {
		i := slices.IndexFunc(speakers, func(s v1alpha1.Speaker) bool { return s.Name == node })
		if i < 0 {
			return false
		}
		if _, waits := speakers[i].Annotations[order]; waits {
			return false
		}
		if c := meta.FindStatusCondition(speakers[i].Status.Conditions, v1alpha1.ConditionMoved); c != nil {
			said, refused = c.Message, c.Reason == v1alpha1.ReasonRefused
		}
		return true
	})
	if err != nil {
		return err
	}
	r.result.Says = append(r.result.Says, node+": "+said)
	if refused {
		return fmt.Errorf("speaker %s says: %s", node, said)
	}
	r.page.Line(term.Say("%s says: %s", node, said))
	return nil
}

// gone reports whether the node announces none of the moves' addresses, another node whose
// speaker is alive does, and the node's routes are as planned.
func gone(node string, plan Plan) func([]v1alpha1.Speaker) bool {
	return func(speakers []v1alpha1.Speaker) bool {
		owned := map[string]bool{}
		for i := range speakers {
			for _, a := range speakers[i].Status.Layer2 {
				if speakers[i].Name == node && slices.ContainsFunc(plan.Moves, func(m Move) bool { return m.Address.String() == a.Address }) {
					return false
				}
				if view.SpeakerAlive(&speakers[i]) { // else it is what a dead one announced
					owned[a.Address] = true
				}
			}
			if speakers[i].Name == node && !advertises(&speakers[i], plan.Routes) {
				return false
			}
		}
		return !slices.ContainsFunc(plan.Moves, func(m Move) bool { return !owned[m.Address.String()] })
	}
}

// advertises reports whether each router with which the node has an established session has
// as many routes as planned.
func advertises(s *v1alpha1.Speaker, routes Routes) bool {
	for _, session := range s.Status.BGPSessions {
		if session.State == v1alpha1.BGPSessionEstablished && int(session.Prefixes) != routes.after[session.Peer] {
			return false
		}
	}
	return true
}
