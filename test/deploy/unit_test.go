package deploy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The unit has the rights that tracing takes, no others, and nothing that takes them
// away again.
func TestUnitRights(t *testing.T) {
	unit := settings(t, unitFile)
	for _, key := range []string{"AmbientCapabilities", "CapabilityBoundingSet"} {
		if diff := cmp.Diff([][]string{capabilities()}, [][]string{sorted(strings.Fields(strings.Join(unit[key], " ")))}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
	for _, key := range []string{
		"ProtectKernelTunables", "ProtectKernelLogs", "PrivateUsers", "ProtectProc", "ProcSubset", "PrivateNetwork", "PrivatePIDs",
	} {
		if got := unit[key]; got != nil {
			t.Errorf("%s=%s: it takes away what tracing needs", key, got)
		}
	}
	for key, want := range map[string]string{
		"User": "otel-kprobe", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ReadOnlyPaths": "/proc/sys /sys",
		"RestartPreventExitStatus": "2 3 5", "LimitMEMLOCK": "infinity",
	} {
		if diff := cmp.Diff([]string{want}, unit[key]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
	want := map[string][]string{"AmbientCapabilities": {"CAP_SYS_ADMIN"}, "CapabilityBoundingSet": {"CAP_SYS_ADMIN"}}
	if diff := cmp.Diff(want, settings(t, dropInFile)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", dropInFile, diff)
	}
}

// systemd reads the unit as it is meant, and thinks it confined: its measure goes from
// 0 to 10, and is given in tenths. A service without any confinement has 9.6.
func TestUnitVerify(t *testing.T) {
	program := named(t, "OTEL_KPROBE_BIN")
	unit := withProgram(t, unitFile, program)
	// verify tells of keys that it does not know, and succeeds.
	if out := output(t, "systemd-analyze", "verify", "--man=no", unit); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	output(t, "systemd-analyze", "security", "--offline=true", "--threshold=40", unit)
}
