package stack

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// binaryVariable names the otel-kprobe binary under test.
const binaryVariable = "OTEL_KPROBE_BIN"

// TestProgramTakesItsConfiguration lets otel-kprobe read the file that its service is
// started with, and compile the filter, as far as that goes without a kernel.
func TestProgramTakesItsConfiguration(t *testing.T) {
	binary := binaryUnderTest(t)
	service := everything(t, composeFile)[tracer]
	var args []string
	for _, arg := range service.Command {
		for _, mount := range service.Volumes {
			arg = strings.Replace(arg, "="+mount.Target, "="+mount.Source, 1)
		}
		args = append(args, arg)
	}
	if out, err := exec.CommandContext(t.Context(), binary, append(args, "--check-config")...).CombinedOutput(); err != nil {
		t.Errorf("otel-kprobe %v --check-config: %v\n%s", args, err, out)
	}
	config := readTracer(t)
	if health := strings.Join(service.HealthCheck.Test, " "); !strings.Contains(health, config.Health.Listen+"/healthz") {
		t.Errorf("otel-kprobe listens at %q, and its health check is %q", config.Health.Listen, health)
	}
	if config.Block.By != "device" {
		t.Errorf("histograms are by %q, and the dashboards show devices", config.Block.By)
	}
}

// readTracer reads what of otel-kprobe's configuration others rely on.
func readTracer(t *testing.T) (config struct {
	Block  struct{ By string }
	Health struct{ Listen string }
},
) {
	t.Helper()
	if err := yaml.Unmarshal(read(t, "deploy/otel-kprobe-stack.yaml"), &config); err != nil {
		t.Fatal(err)
	}
	return config
}

func binaryUnderTest(t *testing.T) string {
	t.Helper()
	binary := os.Getenv(binaryVariable)
	if binary == "" {
		t.Fatalf("%s is not set: build otel-kprobe and set it to the absolute path of the binary", binaryVariable)
	}
	return binary
}
