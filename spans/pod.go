package spans

import "strings"

// podUIDLen are the lengths of a pod's uid: a UUID, or of a pod that the kubelet
// read from a file (a static pod) a hash in hexadecimal.
const (
	podUUIDLen = 36
	podHashLen = 32
)

// PodUID returns the uid of the Kubernetes pod that a cgroup path belongs to, ""
// when it belongs to none. It knows the names that the kubelet gives with systemd
// (kubepods-burstable-pod1b2c….slice, with _ for -) and without (pod1b2c…).
func PodUID(path string) string {
	for rest, ok := path, strings.Contains(path, "kubepods"); ok && rest != ""; {
		i := strings.LastIndexByte(rest, '/')
		segment := rest[i+1:]
		rest = rest[:max(i, 0)]
		// containerd without systemd's scopes: slice:cri-containerd:id.
		segment, _, _ = strings.Cut(segment, ":")
		segment = strings.TrimSuffix(segment, ".slice")
		if i := strings.LastIndex(segment, "-pod"); i >= 0 {
			segment = segment[i+1:]
		}
		if uid, ok := strings.CutPrefix(segment, "pod"); ok {
			if uid = strings.ReplaceAll(uid, "_", "-"); isPodUID(uid) {
				return uid
			}
		}
	}
	return ""
}

func isPodUID(s string) bool {
	if len(s) != podUUIDLen && len(s) != podHashLen {
		return false
	}
	for i := range len(s) {
		hyphen := len(s) == podUUIDLen && (i == 8 || i == 13 || i == 18 || i == 23)
		if hyphen != (s[i] == '-') || !hyphen && strings.IndexByte(hexDigits, s[i]) < 0 {
			return false
		}
	}
	return true
}
