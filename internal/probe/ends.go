package probe

import (
	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// endFunction frees its first argument without one of the tracepoints
// skb:kfree_skb and skb:consume_skb having told so.
type endFunction struct {
	function string
	program  string // that ends it, where the function is not probed for frames
	how      event.EndHow
}

// endFunctions lists every way out of tracking besides the tracepoints. Which
// of them exist as functions depends on version and compiler; each is followed
// by another one on the kernels where it does not (docs/kernels.md).
func endFunctions() []endFunction {
	return []endFunction{
		{"__kfree_skb", bpf.ProgramEndFreed, event.EndFreed},
		{"kfree_skbmem", bpf.ProgramEndFreed, event.EndFreed},
		{"skb_release_head_state", bpf.ProgramEndFreed, event.EndFreed},
		{"__consume_stateless_skb", bpf.ProgramEndFreed, event.EndFreed},
		{"napi_skb_free_stolen_head", bpf.ProgramEndMerged, event.EndMerged},
		{"kfree_skb_partial", bpf.ProgramEndMerged, event.EndMerged},
		{"skb_attempt_defer_free", bpf.ProgramEndDeferred, event.EndDeferred},
	}
}
