package spans

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// cacheLimit bounds each table of remembered strings: addresses and names
// come from the network and from users, who could send ever new ones.
const cacheLimit = 8192

// function is what a Builder knows of a probed function.
type function struct {
	hook        event.Hook // where it is attached, if it is a BPF program
	program     uint32     // its id
	programName string     // "" unknown

	Function
	stage Stage
	side  side
	ret   Return
	means result // what ret's number is
	frees bool
	wait  Wait
	reads bool
	takes bool // it reads or queues: a socket took the packet in
	// copies: what it clones goes elsewhere and is another packet
	copies bool
	text   string // what it does, "" unknown or not wanted
}

// nameCache remembers strings, so that a Build in steady state makes none.
type nameCache struct {
	names     Names
	raw       bool
	meaning   func(Function) Return
	texts     map[string]string // of functions, by name
	functions map[uint64]*function
	locations map[uint64]string
	places    map[uint64]string // see place
	reasons   map[uint32]string
	fixed     fixedStrings
	addresses map[netip.Addr]string
	protocols map[[4]byte]string
	roots     map[rootName]string
	messages  map[dropMessage]string
	netfilter netfilterNames
}

type rootName struct {
	direction Direction
	protocol  string
}

type dropMessage struct{ reason, location string }

func newNameCache(o Options) nameCache {
	if o.ReturnMeaning == nil {
		o.ReturnMeaning = KnownReturn
	}
	var texts map[string]string
	if o.Describe {
		texts = descriptions()
	}
	return nameCache{
		texts: texts,
		names: o.Names, raw: o.RawAddresses, meaning: o.ReturnMeaning,
		functions: map[uint64]*function{},
		locations: map[uint64]string{},
		places:    map[uint64]string{},
		reasons:   map[uint32]string{},
		fixed:     fixedStrings{},
		addresses: map[netip.Addr]string{},
		protocols: map[[4]byte]string{},
		roots:     map[rootName]string{},
		messages:  map[dropMessage]string{},
		netfilter: newNetfilterNames(),
	}
}

// remember keeps v, forgetting everything when the table is full.
func remember[K comparable, V any](m map[K]V, k K, v V) V {
	if len(m) >= cacheLimit {
		clear(m)
	}
	m[k] = v
	return v
}

func (c *nameCache) function(addr uint64) *function {
	if f, ok := c.functions[addr]; ok {
		return f
	}
	f := &function{Function: c.names.Function(addr)}
	f.Name, f.Module = valid(f.Name), valid(f.Module)
	if hook, id := event.Program(addr); hook != event.HookNone {
		f.asProgram(hook, id)
	} else if f.Name == "" {
		f.Name = "unknown function"
		if c.raw {
			f.Name = "0x" + strconv.FormatUint(addr, 16)
		}
	} else {
		f.stage, f.side = classify(f.Function)
		f.ret = c.meaning(f.Function)
		f.means = resultOf(f.Name, f.stage)
		f.frees = frees(f.Name)
		f.wait = waitAfter(f.Name, f.stage)
		f.reads = reads(f.Name)
		f.takes = f.reads || queues(f.Name)
		f.copies = copies(f.Name)
		bare, _, _ := strings.Cut(f.Name, ".")
		f.text = c.texts[bare]
	}
	return remember(c.functions, addr, f)
}

// location names a place in the kernel, "" when it cannot.
func (c *nameCache) location(addr uint64) string {
	if addr == 0 {
		return ""
	}
	if s, ok := c.locations[addr]; ok {
		return s
	}
	s := valid(c.names.Location(addr))
	if s == "" && c.raw {
		s = "0x" + strconv.FormatUint(addr, 16)
	}
	return remember(c.locations, addr, s)
}

// reasonNone is what a kernel without drop reasons (before 5.17) says.
const reasonNone = "NOT_SPECIFIED"

// reason names a drop reason; it is never empty.
func (c *nameCache) reason(v uint32) string {
	if s, ok := c.reasons[v]; ok {
		return s
	}
	if name, ok := xdpReason(v); ok {
		return remember(c.reasons, v, name)
	}
	s := valid(c.names.DropReason(v))
	switch {
	case s == "" && v == 0:
		s = reasonNone
	case s == "":
		s = "reason 0x" + strconv.FormatUint(uint64(v), 16)
	}
	return remember(c.reasons, v, s)
}

// netNS remembers nothing: see Names.
func (c *nameCache) netNS(inum uint32, unixNs uint64) string {
	return valid(c.names.NetNS(inum, unixNs))
}

// valid repairs a name: a command or a namespace may be called anything, and a
// receiver refuses a whole message for one string that is not UTF-8.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func (c *nameCache) fixedString(b [16]byte) string { return c.fixed.name(b) }

// fixedStrings remembers the strings of NUL-terminated names.
type fixedStrings map[[16]byte]string

// name returns a NUL-terminated name.
func (m fixedStrings) name(b [16]byte) string {
	if b[0] == 0 {
		return ""
	}
	if s, ok := m[b]; ok {
		return s
	}
	raw := b[:]
	if i := bytes.IndexByte(raw, 0); i >= 0 {
		raw = raw[:i]
	}
	return remember(m, b, valid(string(raw)))
}

// address returns the text form of an IP address, "" without a family.
func (c *nameCache) address(family uint8, b [16]byte) string {
	var a netip.Addr
	switch family {
	case 4:
		a = netip.AddrFrom4([4]byte(b[:4]))
	case 6:
		a = netip.AddrFrom16(b)
	default:
		return ""
	}
	if s, ok := c.addresses[a]; ok {
		return s
	}
	return remember(c.addresses, a, a.String())
}

func (c *nameCache) protocol(f *event.Facts) string {
	if f == nil {
		return ""
	}
	k := [4]byte{f.Protocol, f.Family, byte(f.EtherType >> 8), byte(f.EtherType)}
	if f.Flags&event.FactsTuple == 0 {
		k[1] = 0
	}
	if s, ok := c.protocols[k]; ok {
		return s
	}
	return remember(c.protocols, k, protocolName(f))
}

// root returns the name of a root span.
func (c *nameCache) root(d Direction, protocol string) string {
	k := rootName{d, protocol}
	if s, ok := c.roots[k]; ok {
		return s
	}
	s := "packet"
	if d != DirectionUnknown {
		s += " " + d.String()
	}
	if protocol != "" {
		s += " " + protocol
	}
	return remember(c.roots, k, s)
}

// message returns the status message of a drop.
func (c *nameCache) message(reason, location string) string {
	k := dropMessage{reason, location}
	if s, ok := c.messages[k]; ok {
		return s
	}
	s := "dropped: " + reason
	if location != "" {
		s += " at " + location
	}
	return remember(c.messages, k, s)
}
