package spans

// settleNamespaces corrects facts of an skb without a device. Their namespace is
// that of the skb's socket, and the socket of the kernel's own answers (ICMP's,
// one for each CPU since Linux 5.19) is in the namespace of its last packet, or in
// the first: not in that of a packet that waits. An skb changes its namespace at a
// device only, so the one that it had there holds.
func (t *Trace) settleNamespaces() {
	for i := range t.Facts {
		f := &t.Facts[i]
		if f.Ifindex != 0 || f.NetNS == 0 {
			continue
		}
		for k := i - 1; k >= 0; k-- {
			if before := &t.Facts[k]; before.Skb == f.Skb && before.NetNS != 0 {
				f.NetNS = before.NetNS
				break
			}
		}
	}
}
