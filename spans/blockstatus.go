package spans

import "strconv"

// blockStatus is what the kernel calls a failure of the block layer.
type blockStatus struct {
	name string // of the constant in include/linux/blk_types.h
	text string // as in the kernel's log, without the word "error"
}

// blockStatuses is indexed by blk_status_t as Linux 6.10 and later number it.
var blockStatuses = [...]blockStatus{
	1:  {"BLK_STS_NOTSUPP", "operation not supported"},
	2:  {"BLK_STS_TIMEOUT", "timeout"},
	3:  {"BLK_STS_NOSPC", "critical space allocation"},
	4:  {"BLK_STS_TRANSPORT", "recoverable transport"},
	5:  {"BLK_STS_TARGET", "critical target"},
	6:  {"BLK_STS_RESV_CONFLICT", "reservation conflict"}, // BLK_STS_NEXUS in older kernels
	7:  {"BLK_STS_MEDIUM", "critical medium"},
	8:  {"BLK_STS_PROTECTION", "protection"},
	9:  {"BLK_STS_RESOURCE", "kernel resource"},
	10: {"BLK_STS_IOERR", "I/O"},
	11: {"BLK_STS_DM_REQUEUE", "dm internal retry"},
	12: {"BLK_STS_AGAIN", "nonblocking retry"},
	13: {"BLK_STS_DEV_RESOURCE", "device resource"},
	14: {"BLK_STS_ZONE_OPEN_RESOURCE", "open zones exceeded"},
	15: {"BLK_STS_ZONE_ACTIVE_RESOURCE", "active zones exceeded"},
	16: {"BLK_STS_OFFLINE", "device offline"},
	17: {"BLK_STS_DURATION_LIMIT", "duration limit exceeded"},
	19: {"BLK_STS_INVAL", "invalid"},
}

// blockZoneResource is the number of BLK_STS_ZONE_RESOURCE, which Linux 6.10
// took away: before, the numbers from here on to BLK_STS_DURATION_LIMIT were
// one higher.
const (
	blockZoneResource = 14
	blockOldLast      = 18
)

// blockStatusOfErrno is the inverse of the kernel's blk_status_to_errno, for the
// numbers that errnos have on x86 and arm64.
var blockStatusOfErrno = map[int32]int32{
	95: 1, 110: 2, 28: 3, 67: 4, 121: 5, 52: 6, 61: 7, 84: 8, 12: 9, 5: 10, 78: 11, 11: 12,
	16: 13, 109: 14, 75: 15, 19: 16, 62: 17, 22: 19,
}

// statusOfBlock names a failure. status is a blk_status_t, numbered as before
// Linux 6.10 with old, or with errno a negative errno.
func statusOfBlock(status int32, errno, old bool) blockStatus {
	n := status
	switch {
	case errno:
		known, ok := blockStatusOfErrno[-status]
		if !ok {
			return blockStatus{"errno " + strconv.Itoa(int(-status)), "I/O"}
		}
		n = known
	case old && status == blockZoneResource:
		return blockStatus{"BLK_STS_ZONE_RESOURCE", "zone resource"}
	case old && status > blockZoneResource && status <= blockOldLast:
		n = status - 1
	}
	if n > 0 && int(n) < len(blockStatuses) && blockStatuses[n].name != "" {
		return blockStatuses[n]
	}
	return blockStatus{"blk_status " + strconv.Itoa(int(status)), "I/O"}
}
