// Package members is the gossip between speakers: which are alive, which interfaces each can
// announce on, and which one owns which address.
//
// It exchanges these over memberlist (SWIM gossip), encrypted, so that ownership moves without the
// API server. It is the only package that imports memberlist.
package members
