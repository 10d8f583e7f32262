// Package probe decides which kernel functions are watched and attaches to
// them.
//
// Choosing takes three steps: Scan finds the functions of vmlinux and of the
// loaded modules whose prototype holds an skb (package kernel reads the BTF in
// place, since decoding all of it costs seconds on a slow machine); Select
// keeps those that can be probed and names a reason for each other one; the
// tables in curated.go, rules.go and skbargs.go hold what no prototype tells.
package probe
