package kernel

import (
	"fmt"
	"strings"
)

const (
	dropReasonEnum   = "skb_drop_reason"
	dropSubsysEnum   = "skb_drop_reason_subsys"
	dropReasonPrefix = "SKB_DROP_REASON_"
	dropSubsysPrefix = dropReasonPrefix + "SUBSYS_"
	dropSubsysShift  = 16
)

// DropReasons names the values of the kernel's enum skb_drop_reason and those
// that its subsystems add (mac80211, openvswitch …). The zero value names
// nothing, which is right for kernels before 5.17: they give no reasons.
type DropReasons struct {
	names   map[uint32]string
	subsys  map[uint32]string // by value >> 16
	present bool
}

// ReadDropReasons takes the names from the BTF of vmlinux and of modules: a
// subsystem's reasons are in the module that gives them. Names have no
// SKB_DROP_REASON_ in front (NETFILTER_DROP, TCP_CSUM …).
func ReadDropReasons(vmlinux *RawBTF, modules ...*RawBTF) DropReasons {
	r := DropReasons{names: make(map[uint32]string), subsys: make(map[uint32]string)}
	for _, e := range reasonEnums(vmlinux) {
		switch name := string(vmlinux.Name(e.NameOff)); name {
		case dropReasonEnum:
			r.present = true
			r.addCore(vmlinux, e)
		case dropSubsysEnum:
			r.addSubsys(vmlinux, e)
		}
	}
	if !r.present {
		return r
	}
	for _, b := range append([]*RawBTF{vmlinux}, modules...) {
		for _, e := range reasonEnums(b) {
			if !b.NameIs(e.NameOff, dropReasonEnum) && !b.NameIs(e.NameOff, dropSubsysEnum) {
				r.addForeign(b, e)
			}
		}
	}
	return r
}

// reasonEnums returns the enums whose name speaks of drop reasons.
func reasonEnums(b *RawBTF) []BTFType {
	var found []BTFType
	for id := b.FirstID(); id < b.NextID(); id++ {
		t, _ := b.Type(id)
		if t.Kind != BTFEnum && t.Kind != BTFEnum64 {
			continue
		}
		if strings.Contains(string(b.Name(t.NameOff)), "drop_reason") {
			found = append(found, t)
		}
	}
	return found
}

func (r DropReasons) addCore(b *RawBTF, e BTFType) {
	for i := range e.Len {
		off, value := e.Enumerator(i)
		name := string(b.Name(off))
		if name == dropReasonPrefix+"MAX" || name == dropReasonPrefix+"SUBSYS_MASK" {
			continue
		}
		name = strings.TrimPrefix(strings.TrimPrefix(name, dropReasonPrefix), "SKB_")
		r.names[uint32(value)] = name
	}
}

func (r DropReasons) addSubsys(b *RawBTF, e BTFType) {
	for i := range e.Len {
		off, value := e.Enumerator(i)
		name := strings.TrimPrefix(string(b.Name(off)), dropSubsysPrefix)
		if value > 0 && name != "NUM" {
			r.subsys[uint32(value)] = name
		}
	}
}

// addForeign adds the values that carry a known subsystem's number.
func (r DropReasons) addForeign(b *RawBTF, e BTFType) {
	for i := range e.Len {
		off, v := e.Enumerator(i)
		value := uint32(v)
		name := string(b.Name(off))
		if r.subsys[value>>dropSubsysShift] == "" || r.names[value] != "" || strings.HasPrefix(name, "__") {
			continue
		}
		r.names[value] = name
	}
}

// Name returns the reason's name; for a value that no enum holds, that of its
// subsystem and its number; and nothing on a kernel that gives no reasons.
func (r DropReasons) Name(value uint32) string {
	if !r.present {
		return ""
	}
	if name := r.names[value]; name != "" {
		return name
	}
	if subsys := r.subsys[value>>dropSubsysShift]; subsys != "" {
		return fmt.Sprintf("%s_%d", subsys, value&(1<<dropSubsysShift-1))
	}
	return fmt.Sprintf("UNKNOWN_%d", value)
}

// All returns every value with its name, for a recording. The caller may keep
// and change it.
func (r DropReasons) All() map[uint32]string {
	all := make(map[uint32]string, len(r.names))
	for value, name := range r.names {
		all[value] = name
	}
	return all
}

// DropReasonsOf is what All gave, again, for replay: it names no subsystems.
func DropReasonsOf(names map[uint32]string) DropReasons {
	return DropReasons{names: names, present: len(names) > 0}
}
