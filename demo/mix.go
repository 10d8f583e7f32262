package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// share is one kind of request and its part of all.
type share struct {
	kind  string
	parts int
}

// mix is a flag: how often each kind of request is sent.
type mix []share

// kinds are the requests that there are.
func kinds() []string { return []string{"root", "order", "slow", "error"} }

// String is the mix as Set reads it.
func (m *mix) String() string {
	texts := make([]string, len(*m))
	for i, s := range *m {
		texts[i] = s.kind + "=" + strconv.Itoa(s.parts)
	}
	return strings.Join(texts, ",")
}

// Type is the word for the value in the flag's help.
func (*mix) Type() string { return "KIND=PARTS,…" }

// Set reads a mix such as root=5,order=3.
func (m *mix) Set(text string) error {
	var all mix
	total := 0
	for part := range strings.SplitSeq(text, ",") {
		kind, number, _ := strings.Cut(part, "=")
		parts, err := strconv.Atoi(number)
		if err != nil || parts < 0 || parts > 1000 {
			return fmt.Errorf("%q is not KIND=PARTS, with 0 to 1000 parts", part)
		}
		if !slices.Contains(kinds(), kind) {
			return fmt.Errorf("%q is none of %s", kind, strings.Join(kinds(), ", "))
		}
		all = append(all, share{kind, parts})
		total += parts
	}
	if total == 0 {
		return fmt.Errorf("%q asks for no request", text)
	}
	*m = all
	return nil
}

// pick chooses a kind. below gives a random number below its argument.
func (m *mix) pick(below func(int) int) string {
	total := 0
	for _, s := range *m {
		total += s.parts
	}
	at := below(total)
	for _, s := range *m {
		if at < s.parts {
			return s.kind
		}
		at -= s.parts
	}
	return ""
}
