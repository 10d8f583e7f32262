package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHelp(t *testing.T) {
	for _, name := range []string{"", "packets", "block", "run", "check", "functions", "replay", "help"} {
		t.Run("otel-kprobe "+name, func(t *testing.T) {
			got := command(t, append(strings.Fields(name), "--help")...)
			if got.Status != exitOK || got.Stderr != "" {
				t.Errorf("status %d, stderr %q", got.Status, got.Stderr)
			}
			golden(t, "help"+name+".golden", got.Stdout)
		})
	}
}

func TestHelpOfACommand(t *testing.T) {
	for _, name := range []string{"packets", "block", "run", "replay"} {
		if diff := cmp.Diff(command(t, name, "--help"), command(t, "help", name)); diff != "" {
			t.Errorf("help %s is not %s --help: %s", name, name, diff)
		}
	}
	if diff := cmp.Diff(command(t, "--help"), command(t, "help")); diff != "" {
		t.Error(diff)
	}
}

// Without a command there is help, and a status that tells a script of it.
func TestNoCommand(t *testing.T) {
	want := command(t, "--help")
	want.Status = exitUsage
	if diff := cmp.Diff(want, command(t)); diff != "" {
		t.Error(diff)
	}
}

func TestVersion(t *testing.T) {
	want := outcome{Status: exitOK, Stdout: "otel-kprobe " + version() + "\n"}
	if diff := cmp.Diff(want, command(t, "--version")); diff != "" {
		t.Error(diff)
	}
	if version() == "" || strings.ContainsAny(version(), " \n") {
		t.Errorf("version %q is not one word", version())
	}
}
