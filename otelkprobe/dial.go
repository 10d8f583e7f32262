package otelkprobe

import (
	"context"
	"net"
	"syscall"

	"go.opentelemetry.io/otel/trace"
)

// DialContext gives a function for http.Transport.DialContext, and the like of other
// clients, that dials with the dialer and binds the connection meanwhile to the span in
// the context, so that the handshake belongs to it. What a transport of NewTransport
// dials stays bound until the request has its connection, or is over; all else is
// bound no longer when the function returns.
func DialContext(dialer *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return dialContext(dialer, noteV1)
}

func dialContext(dialer *net.Dialer, note noteFunc) func(context.Context, string, string) (net.Conn, error) {
	if !supported {
		return dialer.DialContext
	}
	d := *dialer
	// A dialer that has both uses ControlContext alone.
	control, plain := d.ControlContext, d.Control
	d.ControlContext = func(ctx context.Context, network, address string, raw syscall.RawConn) error {
		socket{raw: raw}.state(note, whatBinds, trace.SpanContextFromContext(ctx))
		switch {
		case control != nil:
			return control(ctx, network, address, raw)
		case plain != nil:
			return plain(network, address, raw)
		}
		return nil
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if c, ok := ctx.Value(claimKey{}).(*claim); ok {
			c.dialled(conn)
		} else if s, ok := socketOf(conn); ok {
			s.state(note, whatReleases, trace.SpanContextFromContext(ctx))
		}
		return conn, nil
	}
}
