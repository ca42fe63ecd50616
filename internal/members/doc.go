// Package members keeps the speakers in touch: who is alive, what each can
// announce on, and who claims which address.
//
// It carries these over memberlist (SWIM gossip), encrypted, so that ownership
// moves without the API server. It is the only package that imports memberlist.
package members
