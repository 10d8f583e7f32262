package event

import "testing"

func TestProgramFunc(t *testing.T) {
	for _, c := range []struct {
		fn   uint64
		hook Hook
		id   uint32
	}{
		{ProgramFunc(HookTC, 1), HookTC, 1},
		{ProgramFunc(HookXDP, 1<<32-1), HookXDP, 1<<32 - 1},
		{0xffffffff81000000, HookNone, 0}, // the kernel's image
		{0xffffffffc0001000, HookNone, 0}, // a module
		{0x0000000300000001, HookNone, 0},
		{0x0000010100000001, HookNone, 0}, // no hook of eight bits
		{0, HookNone, 0},
	} {
		if hook, id := Program(c.fn); hook != c.hook || id != c.id {
			t.Errorf("%#x is program %d of hook %d, want %d of %d", c.fn, id, hook, c.id, c.hook)
		}
	}
}
