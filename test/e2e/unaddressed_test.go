package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead/fairlead/test/lab"
)

// Who manages a node's network may take its addresses away with the cable, and give
// them anew afterwards. The owner that comes back so has heard nothing meanwhile, and
// says nothing before it has found the others, or has looked for them for long enough.
func TestAddressGoesWithTheCable(t *testing.T) {
	const hears = 700 * time.Millisecond // nothing, from when it has its addresses again; it looks for the others for longer
	f := newFailover(t)
	w := f.begin(t, f.addresses[0])
	n, saved := f.Node(w.owner), filepath.Join(t.TempDir(), "saved")
	sh := func(script string) error {
		out, err := n.Exec(t.Context(), "sh", "-ec", script)
		if err != nil {
			return fmt.Errorf("%s: %w %s", script, err, out)
		}
		return nil
	}
	must(t, sh("ip address save dev eth0 scope global > "+saved+".a; ip -4 route save dev eth0 proto boot > "+saved+".4; ip -6 route save dev eth0 proto boot > "+saved+".6"))
	restore := "ip address restore < " + saved + ".a; ip route restore < " + saved + ".4; ip -6 route restore < " + saved + ".6"
	t.Cleanup(func() { f.heal(t) })
	must(t, errors.Join(n.PullCable(), sh("ip address flush dev eth0 scope global")))
	next := onlyOwner(t, w.seen, 5*time.Second, w.owner)
	must(t, sh("nft 'table inet deaf { chain in { type filter hook input priority 0; th dport 7946 drop; th sport 7946 drop; }; }'"))

	mended := time.Now()
	must(t, errors.Join(n.PlugCable(), sh(restore)))
	back := time.Now()
	lab.Eventually(t, soon, func() error {
		if time.Since(back) < hears {
			return errors.New("it has not been back for long")
		}
		return nil
	})
	must(t, sh("nft delete table inet deaf"))
	f.untilWhole(t)
	if got := onlyOwner(t, w.seen, settled); got != next {
		t.Errorf("%s took over from %s, and then %s did", next, w.owner, got)
	}
	if again := w.seen.Doubt(mended, next); again > 0 {
		t.Errorf("%s answered until %v after its cable was back\n%v", w.owner, again, w.seen)
	}
	must(t, w.seen.Err())
}
