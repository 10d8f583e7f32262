package bpf

// Kfuncs names the kernel functions that the session object calls; Options
// wants the BTF id of each.
func Kfuncs() []string {
	return []string{"bpf_rdonly_cast", "bpf_session_cookie", "bpf_session_is_return"}
}
