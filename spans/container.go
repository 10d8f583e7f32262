package spans

import "strings"

// containerIDLen is the length of the ids that Docker, containerd, CRI-O and
// Podman give: a SHA-256 in hexadecimal.
const containerIDLen = 64

// ContainerID returns the id of the container that a cgroup path belongs to, the
// innermost where containers run in one another, "" when it belongs to none. It
// knows how Docker, containerd, CRI-O and Podman name cgroups, below systemd and
// without it, with Kubernetes and alone.
func ContainerID(path string) string {
	for path != "" {
		var segment string
		i := strings.LastIndexByte(path, '/')
		path, segment = path[:max(i, 0)], path[i+1:]
		if id := scopeID(segment); id != "" {
			return id
		}
		if isContainerID(segment) && (strings.HasSuffix(path, "/docker") || strings.Contains(path, "kubepods")) {
			return segment
		}
	}
	return ""
}

// scopeID returns the container's id in the name of a cgroup that also says
// which runtime made it.
func scopeID(segment string) string {
	// containerd without systemd's scopes: slice:cri-containerd:id.
	if i := strings.LastIndexByte(segment, ':'); i >= 0 {
		if id := segment[i+1:]; strings.HasSuffix(segment[:i], ":cri-containerd") && isContainerID(id) {
			return id
		}
		return ""
	}
	name := strings.TrimSuffix(segment, ".scope")
	for _, prefix := range [...]string{"docker-", "cri-containerd-", "crio-", "libpod-payload-", "libpod-"} {
		if id, ok := strings.CutPrefix(name, prefix); ok && isContainerID(id) {
			return id
		}
	}
	return ""
}

func isContainerID(s string) bool {
	if len(s) != containerIDLen {
		return false
	}
	for i := range len(s) {
		if strings.IndexByte(hexDigits, s[i]) < 0 {
			return false
		}
	}
	return true
}
