package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// ContextsDir is where the map with the spans of threads is pinned, by whoever
// comes first: https://github.com/open-telemetry/opentelemetry-specification/pull/4855
const ContextsDir = "/sys/fs/bpf/otel"

const (
	contextsMap        = "traces_ctx_v1"
	contextsMaxEntries = 1 << 14
	contextKeyBytes    = 8  // bpf_get_current_pid_tgid()
	contextValueBytes  = 24 // struct app_context; a later version may append to it
)

// ErrNoBPFFS says that there is no BPF file system where the map is to be pinned.
var ErrNoBPFFS = errors.New("no BPF file system is mounted there")

// OpenContexts opens the pinned map with the spans that threads are in, and makes
// it when it is not there: those who write it may come later. It stays when we end.
// The caller closes the map.
func OpenContexts(dir string) (*ebpf.Map, error) {
	path := filepath.Join(dir, contextsMap)
	m, err := openPinnedContexts(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	m, err = makeContexts(path)
	if errors.Is(err, fs.ErrExist) { // another one was faster
		return openPinnedContexts(path)
	}
	return m, err
}

func openPinnedContexts(path string) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("open map %s: %w", path, err)
	}
	if err := checkContexts(m); err != nil {
		_ = m.Close() // err tells what is wrong
		return nil, fmt.Errorf("use map %s: %w", path, err)
	}
	return m, nil
}

// checkContexts holds a map that somebody else made against what we read of it.
func checkContexts(m *ebpf.Map) error {
	if t := m.Type(); t != ebpf.LRUHash && t != ebpf.Hash {
		return fmt.Errorf("its type is %v, not a hash", t)
	}
	if m.KeySize() != contextKeyBytes || m.ValueSize() < contextValueBytes {
		return fmt.Errorf("its keys have %d bytes and its values %d, not %d and at least %d",
			m.KeySize(), m.ValueSize(), contextKeyBytes, contextValueBytes)
	}
	return nil
}

func makeContexts(path string) (*ebpf.Map, error) {
	dir := filepath.Dir(path)
	var stat unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(dir), &stat); err != nil || stat.Type != unix.BPF_FS_MAGIC {
		return nil, fmt.Errorf("make map %s: %w", path, ErrNoBPFFS)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the directory of map %s: %w", path, err)
	}
	if err := rlimit.RemoveMemlock(); err != nil { // before Linux 5.11 maps count as locked memory
		return nil, fmt.Errorf("raise the limit of locked memory: %w", err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: contextsMap, Type: ebpf.LRUHash,
		KeySize: contextKeyBytes, ValueSize: contextValueBytes, MaxEntries: contextsMaxEntries,
	})
	if err != nil {
		return nil, fmt.Errorf("make map %s: %w", path, err)
	}
	if err := m.Pin(path); err != nil {
		_ = m.Close() // err tells what went wrong
		return nil, fmt.Errorf("pin map %s: %w", path, err)
	}
	return m, nil
}

// applicationMaps are the maps about spans of applications, which take no memory when
// nobody asks for them.
func applicationMaps() []string {
	return []string{"goroutine_contexts", "span_goroutines", "bound_sockets", "open_heads"}
}

// applyApplications adapts an object to what is asked for of applications.
func applyApplications(spec *ebpf.CollectionSpec, correlate bool, contexts *ebpf.Map, types *btf.Spec) (err error) {
	settings := classicAppSettings{HasTaskRegs: flag(hasTaskRegs())}
	if err := spec.Variables["app_settings"].Set(settings); err != nil {
		return fmt.Errorf("write BPF settings of applications: %w", err)
	}
	if program := spec.Programs[ProgramApplicationStatement]; program != nil {
		if program.AttachType, err = StatementAttachType(types); err != nil {
			return err
		}
	}
	for _, name := range applicationMaps() {
		if m := spec.Maps[name]; m != nil && !correlate {
			m.MaxEntries = 1
		}
	}
	shapeContexts(spec, contexts)
	return nil
}

// StatementsLost counts what applications told and the kernel did not keep.
func (o *Objects) StatementsLost() (uint64, error) { return statementsLost(o.vars) }

// StatementsLost counts what applications told and the kernel did not keep.
func (o *BlockObjects) StatementsLost() (uint64, error) { return statementsLost(o.vars) }

func statementsLost(vars map[string]*ebpf.Variable) (lost uint64, err error) {
	v := vars["statements_lost"]
	if v == nil {
		return 0, nil // no program is loaded that takes statements
	}
	if err := v.Get(&lost); err != nil {
		return 0, fmt.Errorf("read the number of lost statements: %w", err)
	}
	return lost, nil
}

// StatementAttachType is that of ProgramApplicationStatement: where the kernel has it (Linux 6.6,
// https://git.kernel.org/torvalds/c/89ae89f53d20) a link for uprobes, which needs no
// perf_event_open and so no CAP_SYS_ADMIN where that is restricted.
func StatementAttachType(types *btf.Spec) (ebpf.AttachType, error) {
	var enum *btf.Enum
	if err := types.TypeByName("bpf_attach_type", &enum); err != nil {
		return 0, fmt.Errorf("find the ways to attach in the kernel's BTF: %w", err)
	}
	if slices.ContainsFunc(enum.Values, func(v btf.EnumValue) bool { return v.Name == "BPF_TRACE_UPROBE_MULTI" }) {
		return ebpf.AttachTraceUprobeMulti, nil
	}
	return ebpf.AttachNone, nil
}

// hasTaskRegs says whether programs can ask for the user's registers (Linux 5.15,
// https://git.kernel.org/torvalds/c/dd6e10fbd9fb); else they know where these lie.
func hasTaskRegs() bool {
	return features.HaveProgramHelper(ebpf.Kprobe, asm.FnTaskPtRegs) == nil
}

// shapeContexts gives the map of an object with the spans of threads the shape of the
// one that it is to be replaced by; without one it is small, and stays empty.
func shapeContexts(spec *ebpf.CollectionSpec, contexts *ebpf.Map) {
	own := spec.Maps[contextsMap]
	if contexts == nil {
		own.MaxEntries = 1
		return
	}
	own.Type, own.KeySize, own.ValueSize = contexts.Type(), contexts.KeySize(), contexts.ValueSize()
	own.MaxEntries, own.Flags = contexts.MaxEntries(), contexts.Flags()
	own.Key, own.Value = nil, nil // the sizes are what counts
}

// replaceContexts names the map that takes the place of an object's own.
func replaceContexts(contexts *ebpf.Map) map[string]*ebpf.Map {
	if contexts == nil {
		return nil
	}
	return map[string]*ebpf.Map{contextsMap: contexts}
}
