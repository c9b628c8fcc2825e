//go:build race

package policy

// slowdown of the race detector, for tests that have a time limit.
const slowdown = 20
