package spans

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

const (
	podCgroup    = 4243
	dockerCgroup = 4242
	testPodUID   = "6f8a2d3e-0000-4000-8000-1b2c3d4e5f60"
	podPath      = "/kubepods/pod" + testPodUID + "/" + testContainer
	dockerPath   = "/system.slice/docker-" + testContainer + ".scope"
)

// fakeOwners names two cgroups, and the executable of curl.
type fakeOwners struct{ asked int }

func (f *fakeOwners) Cgroup(id uint64) string {
	f.asked++
	return map[uint64]string{podCgroup: podPath, dockerCgroup: dockerPath}[id]
}

func (f *fakeOwners) Executable(t Thread) string {
	f.asked++
	if t.Comm == fixed("curl") {
		return "/usr/bin/curl"
	}
	return ""
}

// own adds an owner at a time after the start of the journey.
func (j *testJourney) own(afterNs uint64, change func(*event.Owner)) *testJourney {
	o := event.Owner{Journey: j.ID, Skb: j.skb, AtMonoNs: 5*testSec + afterNs, Sock: skbB}
	change(&o)
	j.Owners = append(j.Owners, o)
	return j
}

func curl(o *event.Owner) {
	o.Flags, o.TGID, o.TID, o.Comm, o.Cgroup = event.OwnerProcess, 70, 71, fixed("curl"), dockerCgroup
}

func nginx(o *event.Owner) {
	o.Flags, o.TGID, o.TID, o.Comm, o.Cgroup = event.OwnerProcess, 80, 80, fixed("nginx"), podCgroup
}

func unused(o *event.Owner)     { o.Cgroup = podCgroup }
func kernelOwns(o *event.Owner) { o.Flags = event.OwnerKernel }

// ownerKeys are those that tell of an owner.
func ownerKeys(attrs []Attr) map[string]any {
	got := map[string]any{}
	for _, a := range attrs {
		switch a.Key {
		case KeyProcessPID, KeyThreadID, KeyCgroupID:
			got[a.Key.String()] = a.Int
		case KeyThreadName, KeyProcessExecutableName, KeyProcessExecutablePath, KeyCgroupPath, KeyContainerID, KeyPodUID:
			got[a.Key.String()] = a.Str
		}
	}
	return got
}

func TestOwner(t *testing.T) {
	of := func(keys map[string]any, more map[string]any) map[string]any {
		all := map[string]any{}
		for _, m := range []map[string]any{keys, more} {
			for k, v := range m {
				all[k] = v
			}
		}
		return all
	}
	inDocker := map[string]any{
		"otel_kprobe.cgroup.id": int64(dockerCgroup), "otel_kprobe.cgroup.path": dockerPath, "container.id": testContainer,
	}
	inPod := map[string]any{
		"otel_kprobe.cgroup.id": int64(podCgroup), "otel_kprobe.cgroup.path": podPath, "container.id": testContainer,
		"k8s.pod.uid": testPodUID,
	}
	process := func(pid, tid int64, name string) map[string]any {
		return map[string]any{"process.pid": pid, "thread.id": tid, "thread.name": name}
	}
	ofCurl := of(of(process(70, 71, "curl"), inDocker), map[string]any{
		"process.executable.name": "curl", "process.executable.path": "/usr/bin/curl",
	})
	ofNginx := of(process(80, 80, "nginx"), inPod)
	k := newFakeKernel()
	// pingVeth comes to __netif_receive_skb after 900 ns or so.
	const early, late = 10, 100_000
	for _, test := range []struct {
		name    string
		journey *testJourney
		root    map[string]any
		receive map[string]any // nil: no such event
	}{
		{"sent without a socket: who was current", pingVeth(k), process(4711, 4711, "ping"), nil},
		{"sender before who was current", pingVeth(k).own(early, curl), ofCurl, nil},
		{"sender and receiver", pingVeth(k).own(early, curl).own(late, nginx), ofCurl, ofNginx},
		{"sender whose socket was not used since", pingVeth(k).own(early, unused), inPod, nil},
		{"sent by the kernel: nobody", pingVeth(k).own(early, kernelOwns), map[string]any{}, nil},
		{"received only: who was current", pingVeth(k).own(late, nginx), process(4711, 4711, "ping"), ofNginx},
		{"a tunnel's socket is no receiver", pingVeth(k).own(early, curl).own(late, kernelOwns), ofCurl, nil},
		{"the receiver with a process", pingVeth(k).own(early, curl).own(late, nginx).own(late+1, unused), ofCurl, ofNginx},
		{"receiver known before the first function", received(k, 70, "skb_copy_datagram_iter").own(0, nginx), ofNginx, nil},
		{"receiver before the reader", received(k, 70, "skb_copy_datagram_iter").own(late, nginx), ofNginx, nil},
		{"reader where the receiver has no process", received(k, 70, "skb_copy_datagram_iter").own(late, unused), of(process(70, 77, "curl"), inPod), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := NewBuilder(Options{Names: k, Clock: k, Owners: &fakeOwners{}})
			root := b.Build(&test.journey.Journey).Root()
			if diff := cmp.Diff(test.root, ownerKeys(root.Attrs)); diff != "" {
				t.Errorf("root (-want +got):\n%s", diff)
			}
			var receive map[string]any
			for _, e := range root.Events {
				if e.Name == "receive" {
					receive = ownerKeys(e.Attrs)
				}
			}
			if diff := cmp.Diff(test.receive, receive); diff != "" {
				t.Errorf("receive (-want +got):\n%s", diff)
			}
		})
	}
}

// The socket's address leaves hashed, like every other one; without names there
// are numbers.
func TestOwnerSocket(t *testing.T) {
	k := newFakeKernel()
	j := &pingVeth(k).own(10, curl).Journey
	hashed := testBuilder(k).Build(j)
	if got := attr(t, hashed, 0, KeySocketAddress); uint64(got.Int) == skbB {
		t.Error("the socket's address is not hashed")
	}
	if got := attr(t, hashed, 0, KeyCgroupID); got.Int != dockerCgroup {
		t.Errorf("cgroup %d, want %d", got.Int, dockerCgroup)
	}
	raw := NewBuilder(Options{Names: k, Clock: k, RawAddresses: true}).Build(j)
	if got := attr(t, raw, 0, KeySocketAddress); uint64(got.Int) != skbB {
		t.Errorf("raw address of the socket is %x, want %x", got.Int, uint64(skbB))
	}
}

func TestOwnersAllocateNothing(t *testing.T) {
	k, owners := newFakeKernel(), &fakeOwners{}
	b := NewBuilder(Options{Names: k, Clock: k, Owners: owners})
	js := []*journey.Journey{&pingVeth(k).own(10, curl).own(100_000, nginx).Journey, &received(k, 70, "skb_copy_datagram_iter").own(10_000, nginx).Journey}
	run := func() {
		for _, j := range js {
			b.Build(j)
		}
	}
	run()
	asked := owners.asked
	if n := testing.AllocsPerRun(20, run); n != 0 {
		t.Errorf("%v allocations for two traces, want 0", n)
	}
	if owners.asked != asked {
		t.Errorf("names were asked %d times more, want each once", owners.asked-asked)
	}
}

func TestOwnerNamesAreValid(t *testing.T) {
	k := newFakeKernel()
	b := NewBuilder(Options{Names: k, Clock: k, Owners: hostileOwners{}})
	root := b.Build(&pingVeth(k).own(10, curl).Journey).Root()
	for _, key := range []Key{KeyCgroupPath, KeyProcessExecutableName, KeyProcessExecutablePath} {
		found := false
		for _, a := range root.Attrs {
			found = found || a.Key == key && strings.Contains(a.Str, "\uFFFD")
		}
		if !found {
			t.Errorf("%s is not there, or not repaired", key)
		}
	}
}

type hostileOwners struct{}

func (hostileOwners) Cgroup(uint64) string     { return "/\xff" }
func (hostileOwners) Executable(Thread) string { return "/bin/\xff" }
