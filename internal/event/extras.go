package event

// The most that one record holds: addresses of a stack, bytes of fields or payload.
const (
	MaxStackDepth = 32
	MaxExtraBytes = 256
)

// StackKind says what a Stack is of. Their numbers are those of bpf/records.h.
type StackKind uint8

// The kinds of Stack.
const (
	StackDrop   StackKind = 1 << 0 // the kernel stack where an skb was dropped
	StackFrame  StackKind = 1 << 1 // the kernel stack at a frame's entry
	StackCaller StackKind = 1 << 2 // the return address of a frame, alone
)

// Stack is a kernel stack, or the innermost return address of one. That of a
// frame has the frame's Skb and Ordinal, and its EnterMonoNs as AtMonoNs; that of
// a drop was taken shortly before the End of the skb, and has no Ordinal.
type Stack struct {
	Journey   uint64
	Skb       uint64
	AtMonoNs  uint64
	Ordinal   uint32
	TID       uint32 // thread that was current
	CPU       uint16
	Kind      StackKind
	Depth     uint8                 // of Addresses
	Addresses [MaxStackDepth]uint64 // innermost first
}

// FieldsFlags are properties of one Fields.
type FieldsFlags uint8

// FieldsPayload says that Data holds the packet's bytes, from its network header on.
const FieldsPayload FieldsFlags = 1 << 0

// Fields are members of an skb that the user asked for, as they were at a frame's
// entry, whose Skb and Ordinal it has, and whose EnterMonoNs as AtMonoNs. It is
// sent when one of them changed since the last of the same skb. With
// FieldsPayload it is the packet's bytes, once for each journey.
type Fields struct {
	Journey  uint64
	Skb      uint64
	AtMonoNs uint64
	Ordinal  uint32
	TID      uint32
	CPU      uint16
	Valid    uint16 // bit n: field n was read; a pointer on the way to any other was NULL
	Bytes    uint16 // of Data
	Flags    FieldsFlags
	Data     [MaxExtraBytes]byte
}

// FieldKind says how the bytes of a member are to be read.
type FieldKind string

// The kinds of member.
const (
	FieldUnsigned  FieldKind = "unsigned"
	FieldSigned    FieldKind = "signed"
	FieldPointer   FieldKind = "pointer"
	FieldBigEndian FieldKind = "big endian" // of the network: __be16, __be32, __be64
	FieldText      FieldKind = "text"       // an array of char, to the first NUL
	FieldBytes     FieldKind = "bytes"      // an array of numbers of one byte
)

// SkbField says what the user called a member and where and how it stands in
// Fields.Data, in the order of the bits of Fields.Valid. A recording keeps it.
type SkbField struct {
	Name  string    `json:"name"`            // as it was asked for
	At    uint16    `json:"at"`              // of its first byte in Data
	Bytes uint8     `json:"bytes"`           // at most 8 for a number, 16 for an array
	Shift uint8     `json:"shift,omitempty"` // of a bit field, from the lowest bit of the bytes
	Bits  uint8     `json:"bits,omitempty"`  // of a bit field; 0: all
	Kind  FieldKind `json:"kind"`
}
