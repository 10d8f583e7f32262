package spans

import "testing"

func TestBlockStatus(t *testing.T) {
	for _, c := range []struct {
		status     int32
		errno, old bool
		want       string
	}{
		{7, false, false, "BLK_STS_MEDIUM"},
		{7, false, true, "BLK_STS_MEDIUM"},
		{14, false, false, "BLK_STS_ZONE_OPEN_RESOURCE"},
		{14, false, true, "BLK_STS_ZONE_RESOURCE"},
		{15, false, true, "BLK_STS_ZONE_OPEN_RESOURCE"},
		{16, false, false, "BLK_STS_OFFLINE"},
		{17, false, true, "BLK_STS_OFFLINE"},
		{17, false, false, "BLK_STS_DURATION_LIMIT"},
		{18, false, true, "BLK_STS_DURATION_LIMIT"},
		{18, false, false, "blk_status 18"},
		{19, false, false, "BLK_STS_INVAL"},
		{200, false, false, "blk_status 200"},
		{-1, false, false, "blk_status -1"},
		{-61, true, false, "BLK_STS_MEDIUM"},
		{-5, true, true, "BLK_STS_IOERR"},
		{-19, true, true, "BLK_STS_OFFLINE"},
		{-71, true, false, "errno 71"},
	} {
		if got := statusOfBlock(c.status, c.errno, c.old); got.name != c.want || got.text == "" {
			t.Errorf("status %d, errno %v, old %v: %+v, want %s", c.status, c.errno, c.old, got, c.want)
		}
	}
}
