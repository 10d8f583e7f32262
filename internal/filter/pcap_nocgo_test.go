//go:build !cgo

package filter

import (
	"errors"
	"strings"
	"testing"
)

func TestCompileWithoutPcap(t *testing.T) {
	_, err := Compile("tcp")
	if !errors.Is(err, ErrNoPcap) || !strings.Contains(err.Error(), "lacks libpcap") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v, want one sentence that libpcap is lacking", err)
	}
}
