package stack

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

const (
	composeFile = "docker-compose.yaml"
	olderFile   = "deploy/compose-older-kernels.yaml"
	// tracer is the service that sees the host.
	tracer = "otel-kprobe"
)

// load reads compose files as docker compose does: checked against the specification,
// with .env beside them, and without what this process's environment says.
func load(t *testing.T, profiles []string, files ...string) *types.Project {
	t.Helper()
	paths := make([]string, len(files))
	for i, file := range files {
		paths[i] = filepath.Join(root, file)
	}
	options, err := cli.NewProjectOptions(paths,
		cli.WithWorkingDirectory(root), cli.WithEnvFiles(), cli.WithDotEnv, cli.WithDefaultProfiles(profiles...))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatalf("load %v: %v", files, err)
	}
	return project
}

// everything is all services of all profiles.
func everything(t *testing.T, files ...string) types.Services {
	t.Helper()
	return load(t, []string{"*"}, files...).Services
}

func TestProfiles(t *testing.T) {
	always := []string{
		"backend", "demo-back", "demo-front", "demo-load", "jaeger", tracer,
	}
	for name, test := range map[string]struct {
		profiles []string
		more     []string
	}{
		"none named": {nil, []string{"otel-collector"}},
		"jaeger":     {[]string{"jaeger"}, []string{"otel-collector"}},
		"tempo":      {[]string{"tempo"}, []string{"grafana", "otel-collector-tempo", "prometheus", "tempo", "tempo-health"}},
	} {
		t.Run(name, func(t *testing.T) {
			want := append(slices.Clone(always), test.more...)
			slices.Sort(want)
			project := load(t, test.profiles, composeFile)
			got := project.ServiceNames()
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
			checkPortsOnce(t, project.Services)
			if !answersTo(project.Services, "otel-collector") {
				t.Error("nobody is called otel-collector, where applications send their spans")
			}
		})
	}
}

// checkPortsOnce checks that no two services of a profile want the same port.
func checkPortsOnce(t *testing.T, services types.Services) {
	t.Helper()
	taken := map[string]string{}
	for name, service := range services {
		for _, port := range service.Ports {
			if other, ok := taken[port.Published]; ok {
				t.Errorf("%s and %s both publish port %s", name, other, port.Published)
			}
			taken[port.Published] = name
		}
	}
}

// answersTo says whether a service has that name on the default network.
func answersTo(services types.Services, name string) bool {
	for own, service := range services {
		network := service.Networks["default"]
		if own == name || network != nil && slices.Contains(network.Aliases, name) {
			return true
		}
	}
	return false
}

// pinned is an image with all three numbers of its version.
var pinned = regexp.MustCompile(`^[a-z0-9/-]+:v?\d+\.\d+\.\d+$`)

// unchecked are services without a health check, and why.
var unchecked = map[string]string{
	"demo-load":            "it serves nothing",
	"otel-collector":       "its image holds nothing else; backend asks it",
	"otel-collector-tempo": "its image holds nothing else; backend asks it",
	"tempo":                "its image holds nothing else; tempo-health asks it",
}

func TestServicesAreConfined(t *testing.T) {
	for name, s := range everything(t, composeFile) {
		t.Run(name, func(t *testing.T) {
			if s.Privileged || !slices.Equal(s.CapDrop, []string{"ALL"}) || !s.ReadOnly || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
				t.Errorf("privileged %v, cap_drop %v, read_only %v, security_opt %v", s.Privileged, s.CapDrop, s.ReadOnly, s.SecurityOpt)
			}
			for _, port := range s.Ports {
				if port.HostIP != "127.0.0.1" {
					t.Errorf("port %s is published on %q, want 127.0.0.1", port.Published, port.HostIP)
				}
			}
			if s.Build == nil && !pinned.MatchString(s.Image) {
				t.Errorf("image %q has no version of three numbers", s.Image)
			}
			if s.Restart != types.RestartPolicyUnlessStopped {
				t.Errorf("restart is %q, want %s", s.Restart, types.RestartPolicyUnlessStopped)
			}
			if _, ok := unchecked[name]; (s.HealthCheck == nil) != ok {
				t.Errorf("health check %v, and unchecked says %q", s.HealthCheck, unchecked[name])
			}
			if s.Deploy == nil || s.Deploy.Resources.Limits == nil ||
				s.Deploy.Resources.Limits.MemoryBytes == 0 || s.Deploy.Resources.Limits.NanoCPUs == 0 || s.Deploy.Resources.Limits.Pids == 0 {
				t.Error("memory, processors or processes have no limit")
			}
		})
	}
}

// TestTracerSharesTheHost holds the service that sees the host to what it needs of it,
// and all others to nothing.
func TestTracerSharesTheHost(t *testing.T) {
	least := []string{"BPF", "DAC_READ_SEARCH", "PERFMON", "SYSLOG", "SYS_PTRACE"}
	for _, test := range []struct {
		files []string
		caps  []string // in the order of the alphabet
	}{
		{[]string{composeFile}, least},
		{[]string{composeFile, olderFile}, slices.Insert(slices.Clone(least), 4, "SYS_ADMIN")},
	} {
		services := everything(t, test.files...)
		got := services[tracer]
		slices.Sort(got.CapAdd)
		if diff := cmp.Diff(test.caps, got.CapAdd); diff != "" {
			t.Errorf("%v: cap_add (-want +got):\n%s", test.files, diff)
		}
		if got.Pid != "host" || got.NetworkMode != "host" || got.Cgroup != "host" {
			t.Errorf("pid %q, network_mode %q, cgroup %q; want host", got.Pid, got.NetworkMode, got.Cgroup)
		}
		for name, s := range services {
			if name != tracer && (len(s.CapAdd) > 0 || s.Pid != "" || s.NetworkMode != "" || s.Cgroup != "") {
				t.Errorf("%s: cap_add %v, pid %q, network_mode %q, cgroup %q; want none", name, s.CapAdd, s.Pid, s.NetworkMode, s.Cgroup)
			}
		}
	}
}

// TestMountsAreThere checks that every file that is mounted is in the checkout, and
// that of the host only what tracing needs is.
func TestMountsAreThere(t *testing.T) {
	host := map[string]bool{"/sys/kernel/tracing": true, "/sys/kernel/debug": true, "/sys/fs/bpf": false} // read only?
	checkout, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range everything(t, composeFile) {
		for _, mount := range s.Volumes {
			if mount.Type != types.VolumeTypeBind {
				continue
			}
			inside, err := filepath.Rel(checkout, mount.Source)
			readOnly, ofHost := host[mount.Source]
			switch {
			case ofHost && name == tracer:
				if mount.ReadOnly != readOnly {
					t.Errorf("%s: %s is read only: %v, want %v", name, mount.Source, mount.ReadOnly, readOnly)
				}
			case err != nil || strings.HasPrefix(inside, ".."):
				t.Errorf("%s mounts %s, which is not in the checkout", name, mount.Source)
			default:
				if _, err := os.Stat(mount.Source); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if !mount.ReadOnly {
					t.Errorf("%s may write to %s", name, inside)
				}
			}
		}
	}
}

// TestImagesAreBuilt parses Dockerfile as BuildKit does, and checks that what services
// are built from is there, and that what that is built from has a version.
func TestImagesAreBuilt(t *testing.T) {
	text := read(t, "Dockerfile")
	file, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	stages, _, err := instructions.Parse(file.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, stage := range stages {
		if !known[stage.BaseName] && !regexp.MustCompile(`^[a-z]+:\d+\.\d+\.\d+(-[a-z]+)?$`).MatchString(stage.BaseName) {
			t.Errorf("stage %s is from %s, which is no earlier stage and has no version of three numbers", stage.Name, stage.BaseName)
		}
		for _, command := range stage.Commands {
			if from, ok := command.(*instructions.CopyCommand); ok && from.From != "" && !known[from.From] {
				t.Errorf("stage %s copies from %s, which is no earlier stage", stage.Name, from.From)
			}
		}
		known[stage.Name] = true
	}
	for name, s := range everything(t, composeFile) {
		if s.Build != nil && !known[s.Build.Target] {
			t.Errorf("%s is built from stage %q, which Dockerfile does not have", name, s.Build.Target)
		}
	}
	if !regexp.MustCompile(`(?m)^binary:`).Match(read(t, "Makefile")) {
		t.Error("Makefile has no target binary, which Dockerfile makes")
	}
	if addresses := regexp.MustCompile(`https?://[^\s=…]+`).FindAll(text, -1); len(addresses) > 0 {
		t.Errorf("Dockerfile names %s: where things come from is the builder's to say", addresses)
	}
}
