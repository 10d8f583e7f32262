package filter

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMark(t *testing.T) {
	tests := map[string]struct {
		want Mark
		err  string
	}{
		"1":                     {want: Mark{1, 0xffffffff}},
		" 0xFF ":                {want: Mark{0xff, 0xffffffff}},
		"0":                     {want: Mark{0, 0xffffffff}},
		"010":                   {want: Mark{10, 0xffffffff}},
		"0X10/0xf0":             {want: Mark{0x10, 0xf0}},
		"4294967295/4294967295": {want: Mark{0xffffffff, 0xffffffff}},
		"0/0x1":                 {want: Mark{0, 1}},
		"":                      {err: `value "" is not a number`},
		"0x":                    {err: `value "0x" is not a number`},
		"-1":                    {err: "is not a number"},
		"1_0":                   {err: "is not a number"},
		"0x100000000":           {err: "is not a number"},
		"1/":                    {err: `mask "" is not a number`},
		"1/2/3":                 {err: `mask "2/3" is not a number`},
		"1/0":                   {err: "mask 0 ignores the mark"},
		"3/2":                   {err: "can never match"},
	}
	for s, tc := range tests {
		t.Run(s, func(t *testing.T) {
			got, err := ParseMark(s)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || !strings.HasPrefix(err.Error(), "parse mark ") {
					t.Fatalf("error %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("mark (-want +got):\n%s", diff)
			}
			if again, err := ParseMark(got.String()); err != nil || again != got {
				t.Errorf("%s parses to %v, %v", got, again, err)
			}
		})
	}
}

func TestMarkMatch(t *testing.T) {
	if !(Mark{}).Match(7) {
		t.Error("the zero mark does not match everything")
	}
	m := Mark{Value: 0x10, Mask: 0xf0}
	if !m.Match(0x1f) || m.Match(0x2f) || m.Match(0) {
		t.Error("the mask is not applied")
	}
}
