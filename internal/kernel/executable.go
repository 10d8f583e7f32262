package kernel

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// Executable returns the path of the program that a thread runs, as its own
// namespace of mounts has it; "" when its process has ended. The thread, or when
// that has ended the first one of the process, must be called comm
// (NUL-terminated): else the number is another one's by now. Asking takes
// CAP_SYS_PTRACE where the process is another user's.
func Executable(tgid, tid uint32, comm [16]byte) string {
	return executable("/proc", tgid, tid, comm)
}

func executable(proc string, tgid, tid uint32, comm [16]byte) string {
	dir := proc + "/" + strconv.FormatUint(uint64(tgid), 10)
	name, err := os.ReadFile(dir + "/task/" + strconv.FormatUint(uint64(tid), 10) + "/comm")
	if err != nil {
		name, err = os.ReadFile(dir + "/comm")
	}
	want, _, _ := bytes.Cut(comm[:], []byte{0})
	if err != nil || !bytes.Equal(bytes.TrimSuffix(name, []byte("\n")), want) {
		return ""
	}
	path, err := os.Readlink(dir + "/exe")
	if err != nil {
		return "" // a thread of the kernel, or ended meanwhile
	}
	return strings.TrimSuffix(path, " (deleted)")
}
