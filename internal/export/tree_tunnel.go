package export

import "github.com/otel-kprobe/otel-kprobe/spans"

// appendTunnel appends what carried the packet: in vxlan 192.0.2.1 → 192.0.2.2.
func (w *tree) appendTunnel(dst []byte, t *spans.Trace) []byte {
	root := t.Root()
	protocol := attr(root, spans.KeyTunnelProtocol)
	if protocol == nil {
		return dst
	}
	dst = append(append(dst, "in "...), protocol.Str...)
	if a := attr(root, spans.KeyTunnelSource); a != nil {
		dst = append(append(dst, ' '), a.Str...)
	}
	if a := attr(root, spans.KeyTunnelDestination); a != nil {
		dst = append(append(append(dst, ' '), w.signs.arrow...), ' ')
		dst = append(dst, a.Str...)
	}
	return dst
}
