package event

// OwnerFlags are properties of one Owner.
type OwnerFlags uint8

const (
	// OwnerProcess says that TGID, TID and Comm are known: a thread used the
	// socket while the program watched.
	OwnerProcess OwnerFlags = 1 << 0
	// OwnerKernel marks a socket of the kernel's own (of ICMP, of a tunnel), and a
	// connection in TIME_WAIT, of which the kernel keeps no more than it needs to
	// answer: they are nobody's.
	OwnerKernel OwnerFlags = 1 << 1
)

// Owner says which socket an skb belongs to from AtMonoNs on, and whose that is.
// The socket of a packet that is received where it was sent changes on its way.
type Owner struct {
	Journey  uint64
	Skb      uint64
	AtMonoNs uint64
	Sock     uint64 // kernel address of the struct sock; of a connection that is not yet complete, its listener's
	Cgroup   uint64 // id of the cgroup (version 2) in which the socket was made; 0: the root, or unknown
	TGID     uint32 // process of the thread that used the socket last
	TID      uint32 // that thread
	CPU      uint16
	Flags    OwnerFlags
	Comm     [16]byte // the thread's name when it used the socket, NUL-terminated
}
