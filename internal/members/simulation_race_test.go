//go:build race

package members

// simShare is the share of the seeds that are run: the race detector, which has
// nothing to find in a simulation, makes it slow.
const simShare = 0.1
