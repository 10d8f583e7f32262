package deploy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// release returns the directory of a release, and the version that its binary says.
func release(t *testing.T) (dir, version string) {
	t.Helper()
	dir = named(t, "OTEL_KPROBE_RELEASE")
	said := output(t, filepath.Join(dir, "otel-kprobe-linux-amd64"), "--version")
	version = strings.TrimSpace(strings.TrimPrefix(said, "otel-kprobe "))
	if !regexp.MustCompile(`^v\d+\.\d+\.\d+`).MatchString(version) {
		t.Fatalf("the binary says that it is version %q", version)
	}
	return dir, version
}

// The files of a release are those, and their checksums are theirs. The binary needs
// nothing at run time.
func TestRelease(t *testing.T) {
	dir, version := release(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if diff := cmp.Diff(sorted([]string{
		"SHA256SUMS", "otel-kprobe-linux-amd64", "otel-kprobe-" + version + "-linux-amd64.tar.gz",
		"otel-kprobe.cdx.json", filepath.Base(debPath(t, dir)),
	}), sorted(got)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	sums := output(t, "sh", "-c", `cd "$0" && sha256sum --check --strict SHA256SUMS`, dir)
	if n := strings.Count(sums, ": OK\n"); n != len(entries)-1 {
		t.Errorf("%d files have checksums, want %d:\n%s", n, len(entries)-1, sums)
	}
	binary, err := elf.Open(filepath.Join(dir, "otel-kprobe-linux-amd64"))
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary is not static")
		}
	}
}

func debPath(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "otel-kprobe_*_amd64.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages: %q, %v", found, err)
	}
	return found[0]
}

// readTar returns the modes of what an archive has (directories but for their names
// left out), and the content of the files.
func readTar(t *testing.T, r io.Reader) (modes map[string]int64, content map[string]string) {
	t.Helper()
	modes, content = make(map[string]int64), make(map[string]string)
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return modes, content
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Gid != 0 {
			t.Errorf("%s belongs to %d:%d", header.Name, header.Uid, header.Gid)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		modes[header.Name], content[header.Name] = header.Mode, string(text)
	}
}

// manualPages are the names of the pages of deploy/man.
func manualPages(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(top + "/deploy/man/*.1")
	if err != nil || len(paths) < 7 {
		t.Fatalf("manual pages: %q, %v", paths, err)
	}
	for i := range paths {
		paths[i] = filepath.Base(paths[i])
	}
	return paths
}

// The package has its files where Debian looks for them.
func TestReleasePackage(t *testing.T) {
	dir, version := release(t)
	deb := debPath(t, dir)
	modes, content := readTar(t, strings.NewReader(output(t, "dpkg-deb", "--fsys-tarfile", deb)))
	want := map[string]int64{
		"./usr/bin/otel-kprobe":                                  0o755,
		"./etc/otel-kprobe/otel-kprobe.yaml":                     0o644,
		"./usr/lib/systemd/system/otel-kprobe.service":           0o644,
		"./usr/lib/sysusers.d/otel-kprobe.conf":                  0o644,
		"./usr/share/bash-completion/completions/otel-kprobe":    0o644,
		"./usr/share/zsh/vendor-completions/_otel-kprobe":        0o644,
		"./usr/share/fish/vendor_completions.d/otel-kprobe.fish": 0o644,
		"./usr/share/doc/otel-kprobe/changelog.Debian.gz":        0o644,
		"./usr/share/doc/otel-kprobe/copyright":                  0o644,
		"./usr/share/doc/otel-kprobe/otel-kprobe.schema.json":    0o644,
		"./usr/share/doc/otel-kprobe/examples/otel-kprobe.yaml":  0o644,
		"./usr/share/doc/otel-kprobe/examples/perf-events.conf":  0o644,
		"./usr/share/lintian/overrides/otel-kprobe":              0o644,
	}
	for _, page := range manualPages(t) {
		want["./usr/share/man/man1/"+page+".gz"] = 0o644
	}
	if diff := cmp.Diff(want, modes); diff != "" {
		t.Errorf("files of the package (-want +got):\n%s", diff)
	}
	binary, err := os.ReadFile(filepath.Join(dir, "otel-kprobe-linux-amd64"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(binary, []byte(content["./usr/bin/otel-kprobe"])) {
		t.Error("the package has another binary than the release")
	}
	// A version before a tag sorts before it: 1.0.0-0.2026… is 1.0.0~0.2026….
	debian := strings.Replace(strings.TrimPrefix(version, "v"), "-", "~", 1) + "-1"
	if got := strings.TrimSpace(output(t, "dpkg-deb", "--field", deb, "Version")); got != debian {
		t.Errorf("version %q, want %q", got, debian)
	}
	if got := strings.TrimSpace(output(t, "dpkg-deb", "--info", deb, "conffiles")); got != "/etc/otel-kprobe/otel-kprobe.yaml" {
		t.Errorf("files that are the administrator's: %q", got)
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		path := filepath.Join(t.TempDir(), script)
		if err := os.WriteFile(path, []byte(output(t, "dpkg-deb", "--info", deb, script)), 0o600); err != nil {
			t.Fatal(err)
		}
		output(t, "sh", "-n", path)
	}
}

// The tarball unpacks into one directory, with all that docs/install.md speaks of.
func TestReleaseTarball(t *testing.T) {
	dir, version := release(t)
	file, err := os.Open(filepath.Join(dir, "otel-kprobe-"+version+"-linux-amd64.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	modes, content := readTar(t, unpacked)
	root := "otel-kprobe-" + version + "-linux-amd64/"
	want := []string{
		"LICENSE", "README.md", "otel-kprobe", "otel-kprobe.yaml", "otel-kprobe.schema.json", "service.yaml",
		"completions/otel-kprobe.bash", "completions/otel-kprobe.zsh", "completions/otel-kprobe.fish",
		"systemd/otel-kprobe.service", "systemd/otel-kprobe.sysusers", "systemd/perf-events.conf",
		"kubernetes/kustomization.yaml", "kubernetes/daemonset.yaml", "docs/install.md", "docs/operations.md",
	}
	for _, page := range manualPages(t) {
		want = append(want, "man/"+page)
	}
	for _, name := range want {
		if content[root+name] == "" {
			t.Errorf("the tarball lacks %s", name)
		}
	}
	if mode := modes[root+"otel-kprobe"]; mode != 0o755 {
		t.Errorf("the binary's mode is %o", mode)
	}
	for _, name := range slices.Sorted(maps.Keys(content)) {
		if !strings.HasPrefix(name, root) {
			t.Errorf("%s is not below %s", name, root)
		}
	}
}

// The bill of materials names the version, the modules of go.mod that are linked, and
// the C libraries.
func TestReleaseBill(t *testing.T) {
	dir, version := release(t)
	type component struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	var bill struct {
		Format   string `json:"bomFormat"`
		Metadata struct {
			Component component `json:"component"`
		} `json:"metadata"`
		Components []component `json:"components"`
	}
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(dir, "otel-kprobe.cdx.json"))), &bill); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(component{"github.com/otel-kprobe/otel-kprobe", version}, bill.Metadata.Component); diff != "" || bill.Format != "CycloneDX" {
		t.Errorf("a %s of (-want +got):\n%s", bill.Format, diff)
	}
	versions := make(map[string]string)
	for _, c := range bill.Components {
		versions[c.Name] = c.Version
	}
	for _, name := range []string{"std", "github.com/cilium/ebpf", "go.opentelemetry.io/otel/sdk", "google.golang.org/grpc", "libpcap", "glibc"} {
		if versions[name] == "" {
			t.Errorf("%s has no version", name)
		}
	}
	for _, name := range []string{"github.com/google/go-cmp", "go.uber.org/goleak", "github.com/cpuguy83/go-md2man/v2"} {
		if versions[name] != "" {
			t.Errorf("%s is of the tests, and in the binary", name)
		}
	}
}
