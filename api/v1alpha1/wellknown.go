package v1alpha1

// WellKnownCommunities are the names in the IANA registry "BGP Well-known
// Communities", which need no alias.
var WellKnownCommunities = []string{
	"no-export", "no-advertise", "no-export-subconfed", "local-as", "no-peer", "blackhole", "graceful-shutdown",
	"accept-own", "llgr-stale", "no-llgr", "internet",
}
