package bpf

import "github.com/otel-kprobe/otel-kprobe/internal/event"

// Sizes of the records of kinds STACK, FIELDS and PAYLOAD in bytes; layout_test.go holds
// them against C.
const (
	stackHeadBytes   = 40 // before the addresses
	stackRecordBytes = stackHeadBytes + 8*event.MaxStackDepth
	callerBytes      = stackHeadBytes + 8
	fieldsHeadBytes  = 40 // before the data
	payloadHeadBytes = 128
)

// extraRecordBytes is how long a record of kind STACK, FIELDS or PAYLOAD says that it is;
// 0 when it makes no sense.
func extraRecordBytes(raw []byte) int {
	switch {
	case len(raw) < fieldsHeadBytes:
		return fieldsHeadBytes
	case event.Kind(raw[0]) == event.KindPayload:
		return payloadRecordBytes(raw)
	case event.Kind(raw[0]) == event.KindFields:
		if n := int(u16(raw[38:])); n > 0 && n <= event.MaxExtraBytes {
			return fieldsHeadBytes + n
		}
		return 0
	}
	depth := u32(raw[36:])
	switch kind := event.StackKind(raw[1]); {
	case kind == event.StackCaller && depth == 1:
		return callerBytes
	case (kind == event.StackDrop || kind == event.StackFrame) && depth > 0 && depth <= event.MaxStackDepth:
		return stackRecordBytes
	}
	return 0
}

// decodeStack takes a record whose length extraRecordBytes has approved.
func decodeStack(raw []byte, stack *event.Stack) {
	*stack = event.Stack{
		Kind:     event.StackKind(raw[1]),
		CPU:      u16(raw[2:]),
		TID:      u32(raw[4:]),
		Journey:  u64(raw[8:]),
		Skb:      u64(raw[16:]),
		AtMonoNs: u64(raw[24:]),
		Ordinal:  u32(raw[32:]),
		Depth:    uint8(u32(raw[36:])),
	}
	for i := range stack.Depth {
		stack.Addresses[i] = u64(raw[stackHeadBytes+8*int(i):])
	}
}

// decodeFields is decodeStack for fields.
func decodeFields(raw []byte, fields *event.Fields) {
	*fields = event.Fields{
		Flags:    event.FieldsFlags(raw[1]),
		CPU:      u16(raw[2:]),
		TID:      u32(raw[4:]),
		Journey:  u64(raw[8:]),
		Skb:      u64(raw[16:]),
		AtMonoNs: u64(raw[24:]),
		Ordinal:  u32(raw[32:]),
		Valid:    u16(raw[36:]),
		Bytes:    u16(raw[38:]),
	}
	copy(fields.Data[:], raw[fieldsHeadBytes:])
}

// payloadRecordBytes is extraRecordBytes for a payload.
func payloadRecordBytes(raw []byte) int {
	if len(raw) < payloadHeadBytes {
		return payloadHeadBytes
	}
	if n := int(u16(raw[80:])); n <= event.MaxPayloadBytes && raw[82] <= event.MaxTCPOptionBytes {
		return payloadHeadBytes + n
	}
	return 0
}

// decodePayload takes a record whose length extraRecordBytes has approved.
func decodePayload(raw []byte, payload *event.Payload) {
	*payload = event.Payload{
		Family:          raw[1],
		CPU:             u16(raw[2:]),
		Journey:         u64(raw[8:]),
		Skb:             u64(raw[16:]),
		AtMonoNs:        u64(raw[24:]),
		Source:          [16]byte(raw[32:48]),
		Destination:     [16]byte(raw[48:64]),
		Seq:             u32(raw[64:]),
		Ack:             u32(raw[68:]),
		Length:          u32(raw[72:]),
		SourcePort:      u16(raw[76:]),
		DestinationPort: u16(raw[78:]),
		DataBytes:       u16(raw[80:]),
		OptionBytes:     raw[82],
		TCPFlags:        raw[83],
		Options:         [event.MaxTCPOptionBytes]byte(raw[88:128]),
	}
	copy(payload.Data[:], raw[payloadHeadBytes:])
}

// PayloadData gives the packet's bytes in a record of kind PAYLOAD, in place; nil for
// every other record.
func PayloadData(raw []byte) []byte {
	if len(raw) < payloadHeadBytes || event.Kind(raw[0]) != event.KindPayload {
		return nil
	}
	return raw[payloadHeadBytes:]
}
