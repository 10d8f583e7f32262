package kernel

import (
	"errors"

	"golang.org/x/sys/unix"
)

// ProcessExists says whether there is a process or thread of that number, as
// this process counts them, be it another user's.
func ProcessExists(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := unix.Kill(pid, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}
