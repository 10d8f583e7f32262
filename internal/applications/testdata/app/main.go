// Program app tells where in its file a function begins, as its mappings have it, and
// runs until its standard input ends.
package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/applications/testdata/app/told"
)

func main() {
	told.Tell()
	offset, err := fileOffset(uint64(told.Entry()))
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString(strconv.FormatUint(offset, 10) + "\n")
	io.Copy(io.Discard, os.Stdin)
}

// fileOffset looks an address up in /proc/self/maps (proc(5)).
func fileOffset(address uint64) (uint64, error) {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		begin, end, _ := strings.Cut(fields[0], "-")
		from, fromErr := strconv.ParseUint(begin, 16, 64)
		to, toErr := strconv.ParseUint(end, 16, 64)
		offset, err := strconv.ParseUint(fields[2], 16, 64)
		if err := errors.Join(fromErr, toErr, err); err != nil {
			return 0, err
		}
		if address >= from && address < to {
			return address - from + offset, nil
		}
	}
	return 0, errors.New("the address is not mapped")
}
