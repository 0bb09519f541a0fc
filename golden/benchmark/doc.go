// Package benchmark compares the rendered service with other ways to have a
// database session, all in one run and on one database, and says by how much:
// what the numbers are depends on the machine, what the ratios are does so less.
// All of it is tests: see docs/performance.md of this repository for how to run
// them and what they said.
package benchmark
