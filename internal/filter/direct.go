package filter

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// Names in the kernel's BTF that LoadDirect relies on.
const (
	castKfunc  = "bpf_rdonly_cast"
	castStruct = "ip_options"
)

// Direct names the parts of one kernel's BTF that [LoadDirect] uses. The
// verifier lets a program read any number of bytes at any constant offset past
// the end of a struct whose last member is a flexible array of an integer type
// (kernel/bpf/btf.c, btf_struct_walk: "allow structure and integer"; later than
// 6.1, proven from 6.12 on), and bpf_rdonly_cast makes a pointer to such a
// struct out of any address. An address that is not mapped reads as zero.
type Direct struct {
	// KfuncID is the type id of the function bpf_rdonly_cast in vmlinux BTF.
	KfuncID btf.TypeID
	// TypeID is the type id of the struct to cast to in vmlinux BTF.
	TypeID btf.TypeID
	// TypeSize is that struct's size in bytes.
	TypeSize uint32
}

// validate reports whether d can be used, before an instruction is built of it.
func (d Direct) validate() error {
	if d.KfuncID == 0 || d.TypeID == 0 || d.TypeSize == 0 || d.TypeSize >= nearLimit {
		return errors.New("direct loads need the ids that ResolveDirect returns")
	}
	return nil
}

// call returns the call of bpf_rdonly_cast. Offset 0 says that the id is
// vmlinux's and not a module's.
func (d Direct) call() asm.Instruction {
	return asm.Instruction{
		OpCode:   asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call),
		Src:      asm.PseudoKfuncCall,
		Constant: int64(d.KfuncID),
	}
}

// ResolveDirect looks up in vmlinux BTF what [LoadDirect] needs. The error says
// what this kernel lacks and wraps [btf.ErrNotFound] if it is a type; then
// [LoadProbe] is what remains. BTF does not tell that the verifier of Linux 6.2
// to 6.4 refuses reads past a struct: use direct loads from 6.10 on.
func ResolveDirect(vmlinux *btf.Spec) (Direct, error) {
	var fn *btf.Func
	if err := vmlinux.TypeByName(castKfunc, &fn); err != nil {
		return Direct{}, fmt.Errorf("find kfunc %s (Linux 6.2): %w", castKfunc, err)
	}
	var st *btf.Struct
	if err := vmlinux.TypeByName(castStruct, &st); err != nil {
		return Direct{}, fmt.Errorf("find struct %s: %w", castStruct, err)
	}
	if !endsInFlexibleBytes(st) || st.Size >= nearLimit {
		return Direct{}, fmt.Errorf("use struct %s for direct loads: it does not end in a flexible byte array", castStruct)
	}
	kfunc, err := vmlinux.TypeID(fn)
	if err != nil {
		return Direct{}, fmt.Errorf("find id of kfunc %s: %w", castKfunc, err)
	}
	id, err := vmlinux.TypeID(st)
	if err != nil {
		return Direct{}, fmt.Errorf("find id of struct %s: %w", castStruct, err)
	}
	return Direct{KfuncID: kfunc, TypeID: id, TypeSize: st.Size}, nil
}

// endsInFlexibleBytes reports whether the verifier lets a program read past
// the end of st.
func endsInFlexibleBytes(st *btf.Struct) bool {
	if len(st.Members) == 0 {
		return false
	}
	last := st.Members[len(st.Members)-1]
	array, ok := btf.UnderlyingType(last.Type).(*btf.Array)
	if !ok || array.Nelems != 0 || last.Offset.Bytes() > st.Size {
		return false
	}
	_, ok = btf.UnderlyingType(array.Type).(*btf.Int)
	return ok
}
