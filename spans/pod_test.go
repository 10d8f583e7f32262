package spans

import "testing"

func TestPodUID(t *testing.T) {
	const (
		id   = testContainer
		uid  = "6f8a2d3e-0000-4000-8000-1b2c3d4e5f60"
		low  = "6f8a2d3e_0000_4000_8000_1b2c3d4e5f60"
		hash = "0123456789abcdef0123456789abcdef"
	)
	for path, want := range map[string]string{
		"":                        "",
		"/":                       "",
		"/docker/" + id:           "",
		"/user.slice/pod" + uid:   "",
		"/kubepods":               "",
		"/kubepods/pod" + uid:     uid,
		"/kubepods/pod" + uid[1:]: "",
		"/kubepods/burstable/pod" + uid + "/" + id:                                                           uid,
		"/kubepods/burstable/pod" + hash + "/" + id + "/init":                                                hash,
		"/kubepods.slice/kubepods-pod" + low + ".slice/crio-" + id + ".scope":                                uid,
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + low + ".slice":                   uid,
		"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + low + ".slice/cri-containerd-x.scope": uid,
		"/system.slice/containerd.service/kubepods-besteffort-pod" + low + ".slice:cri-containerd:" + id:     uid,
		"/kubepods/pod6f8a2d3e-0000-4000-80001b2c3d4e5f60-0":                                                 "",
		"/kubepods.slice/kubepods-pod" + low[:35] + "x.slice":                                                "",
		"/kubepods/pod" + uid + "/" + id + "/kubepods/pod" + hash + "/" + id:                                 hash,
	} {
		if got := PodUID(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
