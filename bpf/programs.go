package bpf

import "strconv"

// Names of the programs in both objects; probes.h and ends.h define them.
const (
	ProgramKfreeSkb    = "kfree_skb"    // raw tracepoint skb:kfree_skb
	ProgramConsumeSkb  = "consume_skb"  // raw tracepoint skb:consume_skb
	ProgramProbe       = "probe"        // entry and return of every function, Session only
	ProgramEvict       = "evict"        // run by EvictIdle
	ProgramEndFreed    = "end_freed"    // entry of a function that frees its first argument
	ProgramEndMerged   = "end_merged"   // … that takes its data over into another skb
	ProgramEndDeferred = "end_deferred" // … that hands it to the deferred free
	ProgramLeave       = "leave"        // every return, Classic only
	ProgramCallee      = "callee"       // entry (Session: and return) of a function without an skb
	ProgramSock        = "sock_1"       // entry of a function that gets a socket and then its skb, Classic only

	ProgramReads      = "reads_0" // entry of a function that gives the packet's data to a program, Classic only
	ProgramReadsFreed = "reads_1" // … that frees its second argument, whose data were given, Classic only

	ProgramSocketUsed    = "socket_used"    // entry of a function that gets a struct socket from its user
	ProgramSocketChild   = "socket_child"   // … that gives a listening socket a connection
	ProgramSocketGone    = "socket_gone"    // … that destroys its first argument, a socket
	ProgramSocketWritten = "socket_written" // … that writes to its first argument, a socket of TCP

	ProgramApplicationStatement = "application_statement" // uprobe: an application tells of a span
)

// The programs that tell which rule of a packet filter dropped a packet;
// netfilter.h defines them.
const (
	ProgramRuleChain   = "nf_chain"   // nft_do_chain: a hook's rules are entered
	ProgramRuleVerdict = "nf_verdict" // nft_immediate_eval
	ProgramRuleReject  = "nf_reject"  // nft_reject_inet_eval and its kin
	ProgramRuleLookup  = "nf_lookup"  // nft_lookup_eval: a verdict may come out of a map
	ProgramRuleTarget  = "nf_target"  // targets of iptables-nft
	ProgramRuleTable   = "nf_table"   // ipt_do_table and its kin

	ProgramRuleEvaluated = "nf_evaluated" // return of what ProgramRuleLookup and ProgramRuleTarget see
)

// ProbeProgram names the Classic program for a function whose skb is the register
// argument arg (0-based, below 6).
func ProbeProgram(arg int, indirect, noStart bool, kin Kin) string {
	prefix := "plain_"
	switch {
	case kin.program(arg) != "":
		prefix = kin.program(arg)
	case indirect:
		prefix = "indirect_"
	case noStart:
		prefix = "no_start_"
	}
	return prefix + strconv.Itoa(arg)
}
