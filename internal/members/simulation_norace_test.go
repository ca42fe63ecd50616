//go:build !race

package members

// simShare is the share of the seeds that are run.
const simShare = 1
