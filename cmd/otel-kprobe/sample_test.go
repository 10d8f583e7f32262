package main

import (
	"strings"
	"testing"
)

func TestParseSample(t *testing.T) {
	for _, c := range []struct {
		text string
		want uint64
	}{
		{"1/1", 0},
		{"1", 0},
		{"1.0", 0},
		{"1/2", 1 << 55},
		{"0.5", 1 << 55},
		{"1/3", 0xaaaaaaaaaaaaab},
		{"1/4", 3 << 54},
		{"0.25", 3 << 54},
		{"1/100", 0xfd70a3d70a3d71},
		{"1e-2", 0xfd70a3d70a3d71},
		{"0.75", 1 << 54},
		{"1/4294967295", 1<<56 - 1<<24},
	} {
		got, err := parseSample(c.text)
		if err != nil || got != c.want {
			t.Errorf("%s: %x and %v, want %x", c.text, got, err, c.want)
		}
	}
}

func TestBadSample(t *testing.T) {
	for _, text := range []string{"", "0", "1/0", "1/-2", "1/4294967296", "2/3", "1/2.5", "-0.1", "1.1", "1e-10", "NaN", "Inf", "4", "1%", "1/ 2"} {
		if got, err := parseSample(text); err == nil || !strings.HasPrefix(err.Error(), "read --sample: \""+text+"\" is neither 1/N nor a ratio") {
			t.Errorf("%q: %x and %v, want a sentence", text, got, err)
		}
	}
}
