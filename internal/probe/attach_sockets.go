package probe

import (
	"fmt"
	"io"

	"github.com/cilium/ebpf/link"

	"github.com/otel-kprobe/otel-kprobe/bpf"
)

// socketFunctions lists, by the program that notes it, where a process uses a
// socket of the Internet families or a packet socket, where a connection comes to
// be that nobody has accepted yet, and where a socket is destroyed. Each kernel
// has most of them; what one lacks, a compiler has joined with its caller.
func socketFunctions(backend Backend) map[string][]string {
	uses := []string{
		"inet_sendmsg", "inet6_sendmsg", "inet_recvmsg", "inet6_recvmsg", "tcp_splice_read",
		"inet_bind", "inet6_bind", "inet_listen", "inet_accept",
		"inet_stream_connect", "inet_dgram_connect", "packet_sendmsg",
	}
	if backend != BackendSession {
		// For sendfile, until Linux 6.5. A name that is not there costs a multi link
		// several attempts.
		uses = append(uses, "inet_sendpage")
	}
	writes := []string{"tcp_sendmsg_locked"}
	if backend != BackendSession {
		writes = append(writes, "do_tcp_sendpages") // for sendfile and splice, until Linux 6.5
	}
	return map[string][]string{
		bpf.ProgramSocketWritten: writes,
		bpf.ProgramSocketUsed:    uses,
		bpf.ProgramSocketChild:   {"inet_csk_complete_hashdance"},
		bpf.ProgramSocketGone:    {"inet_sock_destruct", "packet_sock_destruct"},
	}
}

// attachSockets notes from now on who uses which socket. What destroys sockets
// comes first, so that no entry stays for an address that is used again.
func (a *Attachment) attachSockets(at attacher) error {
	functions := socketFunctions(at.backend)
	for _, name := range []string{bpf.ProgramSocketGone, bpf.ProgramSocketChild, bpf.ProgramSocketUsed, bpf.ProgramSocketWritten} {
		attach := attachNamed
		if at.backend == BackendKprobe {
			attach = attachNamedSingly
		}
		links, err := attach(at, name, functions[name])
		a.ends = append(a.ends, links...)
		if err != nil {
			return fmt.Errorf("attach program %s: %w", name, err)
		}
	}
	return nil
}

// attachNamed makes one link for all of the functions that there are.
func attachNamed(at attacher, program string, names []string) ([]io.Closer, error) {
	functions := make([]Function, len(names))
	for i, name := range names {
		functions[i] = Function{Name: name}
	}
	links, _, err := attachGroup(functions, func(opts link.KprobeMultiOptions) (io.Closer, error) {
		return link.KprobeMulti(at.programs[program], opts)
	})
	return links, err
}

// attachNamedSingly gives each of the functions that there are a kprobe.
func attachNamedSingly(at attacher, program string, names []string) ([]io.Closer, error) {
	return attachAtOnce(names, func(name string) ([]io.Closer, error) {
		l, err := at.entry(name, program)
		if err != nil {
			return nil, err
		}
		return []io.Closer{l}, nil
	})
}
