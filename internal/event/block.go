package event

// BlockFlags are properties of one Block.
type BlockFlags uint8

const (
	// BlockWriteback marks what a write-back thread of the kernel submitted: the
	// data belongs to Cgroup, and to no process that could be named.
	BlockWriteback BlockFlags = 1 << 0
	// BlockErrno says that Status is a negative errno, as older kernels (5.10)
	// report it, and not a blk_status_t. The tracepoint's BTF tells which.
	BlockErrno BlockFlags = 1 << 1
	// BlockEndsParent says of a request that its Parent, a bio that was handed
	// on as it is to another device, ends with it: that bio's own record has no
	// CompleteMonoNs.
	BlockEndsParent BlockFlags = 1 << 2
	// BlockSubmitter says that the submission was seen: TGID, TID, Comm, Cgroup
	// and SubmitMonoNs are those of the submitter.
	BlockSubmitter BlockFlags = 1 << 3
	// BlockMerged marks, in a KindMerge, a bio that another one's request took
	// along, where the mark is absent the waiter of a flush that several share.
	BlockMerged BlockFlags = 1 << 4
)

// Block is what the kernel reported of one block request, or of one bio on a
// device that has no requests (dm, md, zram). Kind of the Event says which:
//
//   - KindRequest: a request has completed. ID is its own.
//   - KindBio: a bio of a device without requests has completed. ID is its own.
//   - KindMerge: one more bio is part of the request ID; the members are that
//     bio's. It comes before the request's record.
//   - KindRequeue: an attempt of the request ID, begun at IssueMonoNs, was given
//     back at CompleteMonoNs. It comes before the request's record.
//
// All times are CLOCK_MONOTONIC nanoseconds, 0 when the step was not seen: no
// SubmitMonoNs for what was under way at the start, no InsertMonoNs without an
// I/O scheduler, no IssueMonoNs for a request that ended before the driver got
// it and for a bio, no CompleteMonoNs for what was under way at the end.
type Block struct {
	ID             uint64 // unique within one run, of requests and bios together
	Parent         uint64 // ID of the request or bio that caused this one, 0 none
	Address        uint64 // kernel address of the struct request or struct bio
	SubmitMonoNs   uint64 // the bio came to the block layer (block_bio_queue)
	InsertMonoNs   uint64 // the request came to the I/O scheduler
	IssueMonoNs    uint64 // the request went to the driver, the first time
	CompleteMonoNs uint64
	Sector         uint64 // first one, counted from the start of the whole device, 512 bytes each
	Cgroup         uint64 // id (inode number) of the cgroup v2 of the submitter, 0 unknown
	Device         uint32 // dev_t of the whole device: major << 20 | minor
	Partition      uint32 // dev_t of the partition, 0 when the whole device was addressed
	Bytes          uint32 // asked for
	Done           uint32 // bytes that completed, with success or not
	Operation      uint32 // request flags as in the kernel: the low 8 bits are the operation, the others flags
	Status         int32  // blk_status_t, or with BlockErrno a negative errno; 0 is success
	TGID           uint32 // process that submitted it; 0 unknown
	TID            uint32 // thread that submitted it
	IOPriority     uint16 // class << 13 | level
	Bios           uint16 // bios that make it up, 1 where nothing was merged, 0 without any
	Requeues       uint16 // attempts that were given back
	CPU            uint16 // that saw it complete
	Flags          BlockFlags
	Comm           [16]byte // of the thread that submitted it, NUL-terminated
	// App is the span of its application that the thread was in when it submitted,
	// none for write-back.
	App       AppContext
	AppSource AppSource // who told App
	AppFlags  AppFlags
}

// blockOperationBits is REQ_OP_BITS of include/linux/blk_types.h.
const blockOperationBits = 8

// Op is the number of the operation: enum req_op of the kernel that reported it.
func (b *Block) Op() uint8 { return uint8(b.Operation & (1<<blockOperationBits - 1)) }

// Randomness is what decides whether a request or bio without a Parent is sampled: 56
// bits of a hash of its ID and StartMonoNs, the same as in bpf/block_sample.h.
func (b *Block) Randomness() uint64 {
	return mix(mix(b.ID)^b.StartMonoNs()) >> 8
}

// mix is the finalizer of SplitMix64 (https://prng.di.unimi.it/splitmix64.c), as in
// bpf/mix.h.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// StartMonoNs is where the span of the request begins: the issue, and the
// submission where there was none.
func (b *Block) StartMonoNs() uint64 {
	if b.IssueMonoNs != 0 {
		return b.IssueMonoNs
	}
	return b.SubmitMonoNs
}
