package spans

import (
	"strings"
	"testing"
)

func TestContainerID(t *testing.T) {
	const id = testContainer
	other := strings.Repeat("f", containerIDLen)
	for path, want := range map[string]string{
		"":                                      "",
		"/":                                     "",
		"/user.slice/session-1.scope":           "",
		"/docker":                               "",
		"/docker/" + id:                         id,
		"docker/" + id:                          "",
		"/docker/" + id + "/init.scope":         id,
		"/docker/" + id + "/docker/" + other:    other,
		"/system.slice/docker-" + id + ".scope": id,
		"/system.slice/docker-" + id[1:] + ".scope": "",
		"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-containerd-" + id + ".scope": id,
		"/kubepods.slice/kubepods-pod1_2.slice/crio-" + id + ".scope":                                                id,
		"/kubepods.slice/kubepods-pod1_2.slice/crio-conmon-" + id + ".scope":                                         "",
		"/machine.slice/libpod-" + id + ".scope":                                                                     id,
		"/machine.slice/libpod-" + id + ".scope/container":                                                           id,
		"/machine.slice/libpod-conmon-" + id + ".scope":                                                              "",
		"/user.slice/user@1000.service/user.slice/libpod-payload-" + id:                                              id,
		"/kubepods/burstable/pod6f8a2d3e-0000-4000-8000-1b2c3d4e5f60/" + id:                                          id,
		"/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:" + id:                                  id,
		"/system.slice/x.slice:other:" + id:                                                                          "",
		"/other/" + id:                                                                                               "",
		"/docker/" + strings.ToUpper(id):                                                                             "",
	} {
		if got := ContainerID(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
