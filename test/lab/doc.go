// Package lab makes a small data centre out of network namespaces: a switch, a
// router, clients, and a Kubernetes cluster whose control plane and kube-proxy
// are the real ones.
//
// It exists because what Fairlead promises (who answers for an address, how
// long a client is without one) can only be seen on a network that can be
// broken. Tests, benchmarks and the demo all use it. It needs Linux and root,
// but it never touches anything outside the namespaces it made: every name and
// every process carries the lab's id, so labs live side by side with the same
// addresses, and a reaper removes all of one whatever happens to its owner.
//
//	        far ── router ─┐
//	   172.31.0.0/24       │
//	                 ┌── switch ──┬────────┬─ ···   172.30.0.0/24, fd30::/64
//	client, observer ┘     │      │        │
//	                 control   node n1  node n2
//	                  plane     └ pods   └ pods     10.244.n.0/24, fd00:10:244:n::/64
//
// Routers with BGP and BFD (FRR, BIRD) can be added: r2, r3, … stand on the LAN
// beside router, each with a client of its own behind it.
package lab
