package allocator

import (
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// A claim owns its addresses, and lends them to one Service of its namespace.
// The Service has them among its grants; owners has the claim.

// lender returns the claim that has lent the holder an address which it has, or
// nil when that is its own.
func (a *Allocator) lender(h *holding, addr netip.Addr) *holding {
	if owner := a.owners[addr]; owner != nil && owner != h && owner.kind() == lb.KindClaim {
		return owner
	}
	return nil
}

// borrow finds the address of the family that the claim has which the request
// names.
func (a *Allocator) borrow(h *holding, req *lb.Request, f lb.Family) (grant, lb.Reason, []lb.Refusal) {
	r := lb.Refusal{Family: f, Other: req.Claim}
	claim := h.space.claims[r.Other]
	switch {
	case claim == nil:
		r.Reason = lb.ReasonClaimNotFound
	case claim.more.request.Deleting && claim.more.lentTo != h:
		r.Reason = lb.ReasonClaimDeleting
	case claim.more.lentTo != nil && claim.more.lentTo != h:
		r.Reason, r.By = lb.ReasonClaimInUse, claim.more.lentTo.holder()
	case !slices.Contains(claim.more.request.Families, f):
		r.Reason = lb.ReasonClaimLacksFamily
	default:
		if g, ok := claim.grantOf(f); ok && !claim.more.unsaid {
			return g, lb.ReasonClaimed, nil
		}
		r.Reason = lb.ReasonClaimPending
	}
	return grant{}, 0, []lb.Refusal{r}
}

// mayAdopt reports whether a claim may take the address of this Service over:
// the Service names the claim, and does not share the address.
func (h *holding) mayAdopt(owner *holding, addr netip.Addr) bool {
	return h.kind() == lb.KindClaim && owner.kind() == lb.KindService && owner.space == h.space && owner.stays(addr) && h.more.lentTo == nil &&
		owner.more != nil && owner.more.request.Claim == h.name && owner.more.request.ShareKey == ""
}

// lend records which Service has the claim's addresses.
func (a *Allocator) lend(claim, to *holding) {
	if claim.more.lentTo != to {
		claim.more.lentTo = to
		a.touched = append(a.touched, claim.holder())
	}
}

// giveBack ends the loan when the Service has nothing of the claim any more.
func (a *Allocator) giveBack(h, lender *holding) []topic {
	for g := range h.everything {
		if a.lender(h, g.addr) == lender {
			return nil
		}
	}
	a.lend(lender, nil)
	return []topic{{space: lender.space, claim: lender.name}}
}

// inherit makes addresses the Service's own which a claim lent it that is being
// deleted, when the Service no longer names that claim.
func (a *Allocator) inherit(h *holding, req *lb.Request) {
	for g := range h.grants {
		lender := a.lender(h, g.addr)
		if lender == nil || !lender.more.request.Deleting || lender.name == req.Claim {
			continue
		}
		a.bequeath(h, g.addr)
		var rest []grant
		for kept := range lender.grants {
			if kept.addr != g.addr {
				rest = append(rest, *kept)
			}
		}
		lender.arrange(rest)
		a.giveBack(h, lender)
	}
}

// bequeath makes an address that the claim has lent the Service's own.
func (a *Allocator) bequeath(heir *holding, addr netip.Addr) {
	a.owners[addr] = heir
	a.share(heir, addr)
}
