package kernel

import (
	"math"
	"strings"
)

const (
	operationEnum    = "req_op"  // since Linux 6.0
	operationEnumOld = "req_opf" // before
	operationPrefix  = "REQ_OP_"
	operationLast    = operationPrefix + "LAST"

	requestFlagEnum   = "req_flag_bits"
	requestFlagPrefix = "__REQ_"
	requestFlagLast   = requestFlagPrefix + "NR_BITS"
)

// BlockNames names the operations of the block layer and the flags of its
// requests, whose numbers differ from kernel to kernel. The zero value names
// nothing. Methods may be called concurrently.
type BlockNames struct {
	operations []string // by number, "" where there is none
	flags      []string // by bit
}

// ReadBlockNames takes the names from the BTF of vmlinux: enum req_op (before
// Linux 6.0 req_opf) and enum req_flag_bits. Names are lower case without the
// kernel's prefix: read, write_zeroes, failfast_dev, sync.
func ReadBlockNames(vmlinux *RawBTF) BlockNames {
	n := BlockNames{
		operations: enumNames(vmlinux, operationEnum, operationPrefix, operationLast),
		flags:      enumNames(vmlinux, requestFlagEnum, requestFlagPrefix, requestFlagLast),
	}
	if n.operations == nil {
		n.operations = enumNames(vmlinux, operationEnumOld, operationPrefix, operationLast)
	}
	return n
}

// enumNames gives the names of an enum by value, without those of other
// prefixes, aliases of a value that has a name, and last, which counts them.
func enumNames(b *RawBTF, enum, prefix, last string) []string {
	e, ok := b.Find(BTFEnum, enum)
	if !ok {
		return nil
	}
	var names []string
	for i := range e.Len {
		off, value := e.Enumerator(i)
		full := string(b.Name(off))
		name, ok := strings.CutPrefix(full, prefix)
		if !ok || full == last || value < 0 || value > math.MaxUint8 {
			continue
		}
		if missing := int(value) + 1 - len(names); missing > 0 {
			names = append(names, make([]string, missing)...)
		}
		if names[value] == "" {
			names[value] = strings.ToLower(name)
		}
	}
	return names
}

// Operation names an operation (event.Block.Op), "" when it has no name.
func (n BlockNames) Operation(op uint8) string { return nameAt(n.operations, op) }

// RequestFlag names a bit of the flags of a request (event.Block.Operation),
// "" when it has no name. Bits of the operation itself have none.
func (n BlockNames) RequestFlag(bit uint8) string { return nameAt(n.flags, bit) }

func nameAt(names []string, number uint8) string {
	if int(number) >= len(names) {
		return ""
	}
	return names[number]
}

// OperationNumber gives the number of the operation that Operation names so.
func (n BlockNames) OperationNumber(name string) (op uint8, ok bool) {
	for number, known := range n.operations {
		if known == name && name != "" {
			return uint8(number), true
		}
	}
	return 0, false
}

// Operations gives the names of the operations, by ascending number.
func (n BlockNames) Operations() []string {
	var names []string
	for _, name := range n.operations {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}
