package event

import "testing"

// The kernel decides by the same numbers. What a request waited for its issue has no
// part in it.
func TestBlockRandomness(t *testing.T) {
	for _, c := range []struct {
		block Block
		want  uint64
	}{
		{Block{ID: 1<<48 + 1, IssueMonoNs: 5}, 0x8025b663f0c91a},
		{Block{ID: 1<<48 + 1, IssueMonoNs: 6}, 0x434091f38dba1b},
		{Block{ID: 1<<48 + 1, SubmitMonoNs: 5}, 0x8025b663f0c91a},
		{Block{ID: 1<<48 + 1, SubmitMonoNs: 1, IssueMonoNs: 5}, 0x8025b663f0c91a},
	} {
		if got := c.block.Randomness(); got != c.want {
			t.Errorf("%+v: %#x, want %#x", c.block, got, c.want)
		}
	}
}
