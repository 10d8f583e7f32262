package main

import (
	"strings"
	"testing"
)

// What completion prints asks the program itself for what may come next.
func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		got := command(t, "completion", shell)
		if got.Status != exitOK || got.Stderr != "" || !strings.Contains(got.Stdout, "__complete") {
			t.Errorf("completion %s: status %d, stderr %q, %d bytes", shell, got.Status, got.Stderr, len(got.Stdout))
		}
	}
	got := command(t, "__complete", "packets", "--back")
	if got.Status != exitOK || !strings.HasPrefix(got.Stdout, "--backend\t") {
		t.Errorf("completion of --back: %+v", got)
	}
	for _, args := range [][]string{{}, {"tcsh"}, {"bash", "zsh"}} {
		if got := command(t, append([]string{"completion"}, args...)...); got.Status != exitUsage || !strings.Contains(got.Stderr, "fish") {
			t.Errorf("completion %q: %+v", args, got)
		}
	}
}
