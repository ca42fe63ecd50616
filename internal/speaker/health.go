package speaker

import (
	"github.com/go-logr/logr"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/nodecheck"
)

// health is what keeps this node from announcing, or makes another node the better choice.
type health struct {
	drained   bool                   // a user wants other nodes to announce
	unproxied bool                   // kube-proxy does not work
	fails     map[string][]lb.Family // interfaces that cannot be opened, and for which families
	leases    []lb.Lease             // of pools' addresses, by DHCP servers
	findings  []nodecheck.Finding

	announcing repeatedFault // of layer 2
	dhcp       repeatedFault
	keys       repeatedFault
}

// repeatedFault is a fault that recurs, and is logged once as long as it is the same.
type repeatedFault struct{ text string }

// set records the fault as it is now; nil if there is none.
func (f *repeatedFault) set(log logr.Logger, err error, message string) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != f.text {
		log.Error(err, message)
	}
	f.text = text
}
