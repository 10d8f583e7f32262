package truth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// Recall is the part of the packets with data of requests and answers that are tied,
// from 0 to 1; of none it is 0.
func (v *Verdict) Recall() float64 {
	request, answer := v.Rows[ClassRequest], v.Rows[ClassAnswer]
	if request.Ours+answer.Ours == 0 {
		return 0
	}
	return float64(request.Tied+answer.Tied) / float64(request.Ours+answer.Ours)
}

// Table shows what became of the packets of each class, and the first that are not
// tied.
func (v *Verdict) Table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "class\tpackets\tof a request\ttied\twrong\tmissed")
	for _, class := range classes() {
		row := v.Rows[class]
		if row.Packets == 0 {
			continue
		}
		var missed []string
		for _, why := range slices.Sorted(maps.Keys(row.Missed)) {
			missed = append(missed, fmt.Sprintf("%d %s", row.Missed[why], why))
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\n", class, row.Packets, row.Ours, row.Tied, row.Wrong, strings.Join(missed, "; "))
	}
	_ = w.Flush() // a strings.Builder takes everything
	for _, example := range v.missed {
		fmt.Fprintln(&b, example)
	}
	return b.String()
}
