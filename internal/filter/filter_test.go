package filter

import "testing"

func TestCompileEmpty(t *testing.T) {
	for _, expr := range []string{"", " \t\n"} {
		p, err := Compile(expr)
		if err != nil {
			t.Fatalf("%q: %v", expr, err)
		}
		if !p.MatchesAll() || p.L3Rejected != "" {
			t.Errorf("%q: %+v", expr, p)
		}
		for _, l := range []Layer{L2, L3} {
			body, err := p.Instructions(l, Options{})
			if err != nil || len(body) != 2 {
				t.Fatalf("%q at %s: %v, %v; want two instructions", expr, l, body, err)
			}
			if got, err := run(body, Options{}, nil, 0); err != nil || got != 1 {
				t.Errorf("%q at %s: got %d, %v", expr, l, got, err)
			}
		}
	}
}
