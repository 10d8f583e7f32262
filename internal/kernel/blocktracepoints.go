package kernel

import "bytes"

// The tracepoints that block tracing can do with.
const (
	TracepointRequestIssue     = "block_rq_issue"
	TracepointRequestInsert    = "block_rq_insert"
	TracepointRequestComplete  = "block_rq_complete"
	TracepointRequestRequeue   = "block_rq_requeue"
	TracepointRequestMerge     = "block_rq_merge"
	TracepointBioQueue         = "block_bio_queue"
	TracepointBioComplete      = "block_bio_complete"
	TracepointBioRemap         = "block_bio_remap"
	TracepointSplit            = "block_split"
	TracepointIOStart          = "block_io_start" // since Linux 6.5
	TracepointWritebackStart   = "writeback_start"
	TracepointWritebackWritten = "writeback_written"
)

// blockTracepoints lists them with the kind of object that each reports, ""
// for none that is followed.
func blockTracepoints() map[string]string {
	return map[string]string{
		TracepointRequestIssue:     structRequest,
		TracepointRequestInsert:    structRequest,
		TracepointRequestComplete:  structRequest,
		TracepointRequestRequeue:   structRequest,
		TracepointRequestMerge:     structRequest,
		TracepointIOStart:          structRequest,
		TracepointBioQueue:         structBio,
		TracepointBioComplete:      structBio,
		TracepointBioRemap:         structBio,
		TracepointSplit:            structBio,
		TracepointWritebackStart:   "",
		TracepointWritebackWritten: "",
	}
}

const (
	structRequest = "request"
	structBio     = "bio"

	tracepointTypedef = "btf_trace_"
	blockStatusType   = "blk_status_t"

	functionExecute       = "blk_execute_rq"
	functionExecuteNoWait = "blk_execute_rq_nowait"
)

// TracepointArgs says where the arguments of a tracepoint stand that tracing
// reads. Positions are from 0, without the pointer that every tracepoint
// passes first; -1 means that there is no such argument.
type TracepointArgs struct {
	Present bool // the kernel has this tracepoint
	Object  int  // the struct request * or struct bio *
	Status  int  // block_rq_complete: how the request ended
	// StatusErrno says that the status is a negative errno and not a
	// blk_status_t, as older kernels (5.10) give it.
	StatusErrno bool
	Sector      int // block_split: where the second half begins
	Device      int // block_bio_remap: dev_t of the device that the bio left
	From        int // block_bio_remap: its first sector there
}

// BlockSignatures says which tracepoints and functions of the block layer a
// kernel has and where their arguments stand: distributions carry changes of
// them to older kernels, so that the version does not tell.
type BlockSignatures struct {
	// Tracepoints has an entry for each of the names above, present or not.
	Tracepoints map[string]TracepointArgs
	// Execute and ExecuteNoWait are the positions of the struct request *
	// among the parameters of blk_execute_rq and blk_execute_rq_nowait, -1
	// when there is no such function.
	Execute, ExecuteNoWait int
	// Preempted says that a thread may be preempted by another one while it runs a
	// tracepoint's programs: Linux 7.0 and later
	// (https://git.kernel.org/torvalds/c/a46023d5616e). Told by a type that is two
	// versions older.
	Preempted bool
}

// preemptedTypedef is of what tracepoints are guarded with where Preempted.
const preemptedTypedef = "class_srcu_fast_notrace_t"

// ReadBlockSignatures takes the signatures from the BTF of vmlinux.
func ReadBlockSignatures(vmlinux *RawBTF) BlockSignatures {
	s := BlockSignatures{
		Tracepoints:   make(map[string]TracepointArgs),
		Execute:       pointerParam(vmlinux, functionProto(vmlinux, functionExecute), structRequest),
		ExecuteNoWait: pointerParam(vmlinux, functionProto(vmlinux, functionExecuteNoWait), structRequest),
	}
	objects := blockTracepoints()
	for name := range objects {
		s.Tracepoints[name] = TracepointArgs{Object: -1, Status: -1, Sector: -1, Device: -1, From: -1}
	}
	for t := range vmlinux.OfKind(BTFTypedef) {
		typedef := vmlinux.Name(t.NameOff)
		name, ok := bytes.CutPrefix(typedef, []byte(tracepointTypedef))
		if !ok {
			s.Preempted = s.Preempted || string(typedef) == preemptedTypedef
			continue
		}
		if object, wanted := objects[string(name)]; wanted {
			s.Tracepoints[string(name)] = tracepointArgs(vmlinux, t, string(name), object)
		}
	}
	return s
}

// tracepointArgs finds the arguments of the tracepoint that a typedef of a
// pointer to its prototype describes.
func tracepointArgs(b *RawBTF, typedef BTFType, name, object string) TracepointArgs {
	args := TracepointArgs{Object: -1, Status: -1, Sector: -1, Device: -1, From: -1}
	pointer, _ := b.Resolve(typedef.ID)
	proto, ok := b.Resolve(pointer.SizeOrRef)
	if pointer.Kind != BTFPtr || !ok || proto.Kind != BTFFuncProto {
		return args
	}
	args.Present = true
	if object == "" {
		return args
	}
	at := pointerParam(b, proto, object)
	if at < 1 {
		return args
	}
	args.Object = at - 1
	following := func(n int) int {
		if at+n >= proto.Len {
			return -1
		}
		return args.Object + n
	}
	switch name {
	case TracepointRequestComplete:
		args.Status = following(1)
		args.StatusErrno = args.Status >= 0 && !paramIs(b, proto, at+1, blockStatusType)
	case TracepointSplit:
		args.Sector = following(1)
	case TracepointBioRemap:
		args.Device, args.From = following(1), following(2)
	}
	return args
}

// functionProto gives the prototype of a function, the zero BTFType (which has
// no parameters) when there is no such function.
func functionProto(b *RawBTF, name string) BTFType {
	f, ok := b.Find(BTFFunc, name)
	if !ok {
		return BTFType{}
	}
	proto, _ := b.Type(f.SizeOrRef)
	if proto.Kind != BTFFuncProto {
		return BTFType{}
	}
	return proto
}

// pointerParam gives the position of the first parameter that is a pointer to
// a struct of that name, -1 when there is none.
func pointerParam(b *RawBTF, proto BTFType, structName string) int {
	for i := range proto.Len {
		_, id := proto.Param(i)
		pointer, ok := b.Resolve(id)
		if !ok || pointer.Kind != BTFPtr {
			continue
		}
		to, ok := b.Resolve(pointer.SizeOrRef)
		if ok && (to.Kind == BTFStruct || to.Kind == BTFFwd) && b.NameIs(to.NameOff, structName) {
			return i
		}
	}
	return -1
}

// paramIs says whether the type of a parameter has that very name.
func paramIs(b *RawBTF, proto BTFType, i int, typeName string) bool {
	_, id := proto.Param(i)
	t, ok := b.Type(id)
	return ok && b.NameIs(t.NameOff, typeName)
}
