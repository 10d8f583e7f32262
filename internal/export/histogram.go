package export

import (
	"math/bits"
	"strconv"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
)

// NamedHistogram is the latencies of one group of requests.
type NamedHistogram struct {
	// Name says which requests these are ("device nvme0n1"); "" is all of them.
	Name      string
	Histogram *blockio.Histogram
}

// HistogramOptions configure AppendHistograms.
type HistogramOptions struct {
	ASCII bool // write nothing but ASCII: us and not µs
}

// Columns of a histogram's row; they are bpftrace's.
const (
	labelColumns = 16
	countColumns = 8
	barColumns   = 52
)

// noRequests stands for histograms without any count.
const noRequests = "no request completed\n"

// AppendHistograms appends for each group a title, a row for each power of two
// in the form of bpftrace's hist(), and a line of figures; an empty line parts
// the groups. Groups without a count are left out; when all are, one line says
// so.
func AppendHistograms(dst []byte, groups []NamedHistogram, o HistogramOptions) []byte {
	micro := signsFor(o.ASCII).micro
	empty := true
	for _, g := range groups {
		if g.Histogram.Count == 0 {
			continue
		}
		if !empty {
			dst = append(dst, '\n')
		}
		empty = false
		dst = appendTitle(dst, g.Name, o.ASCII, micro)
		dst = appendRows(dst, g.Histogram.Rows())
		dst = appendFigures(dst, g.Histogram, micro)
	}
	if empty {
		dst = append(dst, noRequests...)
	}
	return dst
}

// appendTitle appends "device nvme0n1, latency in µs".
func appendTitle(dst []byte, name string, ascii bool, micro string) []byte {
	if name != "" {
		dst = append(appendClean(dst, name, ascii), ", "...)
	}
	return append(append(append(dst, "latency in "...), micro...), '\n')
}

// appendRows appends a line for each row; the longest bar is that of the
// highest count.
func appendRows(dst []byte, rows []blockio.Row) []byte {
	highest := uint64(1)
	for _, r := range rows {
		highest = max(highest, r.Count)
	}
	for _, r := range rows {
		from := len(dst)
		dst = appendLabel(dst, r)
		dst = appendSpaces(dst, from+labelColumns-len(dst))
		dst = appendCount(dst, r.Count)
		dst = append(dst, " |"...)
		bar := barOf(r.Count, highest)
		for range bar {
			dst = append(dst, '@')
		}
		dst = append(appendSpaces(dst, barColumns-bar), "|\n"...)
	}
	return dst
}

// barOf gives how many of barColumns stand for a count, rounded down.
func barOf(count, highest uint64) int {
	hi, lo := bits.Mul64(count, barColumns)
	quotient, _ := bits.Div64(hi, lo, highest)
	return int(quotient)
}

// appendLabel appends [1] or [512, 1K).
func appendLabel(dst []byte, r blockio.Row) []byte {
	dst = appendPower(append(dst, '['), r.FromUs)
	if r.ToUs-r.FromUs == 1 {
		return append(dst, ']')
	}
	return append(appendPower(append(dst, ", "...), r.ToUs), ')')
}

// appendPower appends a power of two as bpftrace does: 512, 1K, 64M …
func appendPower(dst []byte, v uint64) []byte {
	const suffixes = "KMGT"
	unit := 0
	for v >= 1024 && unit < len(suffixes) {
		v /= 1024
		unit++
	}
	dst = strconv.AppendUint(dst, v, 10)
	if unit > 0 {
		dst = append(dst, suffixes[unit-1])
	}
	return dst
}

// appendCount appends a count at the right of its column.
func appendCount(dst []byte, count uint64) []byte {
	var digits [20]byte
	text := strconv.AppendUint(digits[:0], count, 10)
	return append(appendSpaces(dst, countColumns-len(text)), text...)
}

// appendSpaces appends n spaces, none when n is negative.
func appendSpaces(dst []byte, n int) []byte {
	for ; n > 0; n-- {
		dst = append(dst, ' ')
	}
	return dst
}

// appendFigures appends the line of what the rows don't show. The maximum is
// left out where it is unknown.
func appendFigures(dst []byte, h *blockio.Histogram, micro string) []byte {
	dst = strconv.AppendUint(append(dst, "count "...), h.Count, 10)
	dst = appendDuration(append(dst, ", sum "...), h.SumNs, micro)
	dst = appendRough(append(dst, ", p50 "...), h.Quantile(0.5), micro)
	dst = appendRough(append(dst, ", p90 "...), h.Quantile(0.9), micro)
	dst = appendRough(append(dst, ", p99 "...), h.Quantile(0.99), micro)
	if h.MaxNs > 0 {
		dst = appendDuration(append(dst, ", max "...), h.MaxNs, micro)
	}
	return append(dst, '\n')
}

// appendRough appends a duration in three digits, or all of its whole number: a
// quantile is no better known than that.
func appendRough(dst []byte, ns uint64, micro string) []byte {
	unit, suffix := durationUnit(ns, micro)
	hundredths := ns / (unit / 100)
	whole := hundredths / 100
	dst = strconv.AppendUint(dst, whole, 10)
	if whole < 100 {
		dst = append(dst, '.', byte('0'+hundredths/10%10))
	}
	if whole < 10 {
		dst = append(dst, byte('0'+hundredths%10))
	}
	return append(dst, suffix...)
}
