package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

const (
	// sampleAll is the --sample that leaves nothing out.
	sampleAll = "1/1"
	// randomnessValues is how many values the randomness of a packet or request has.
	randomnessValues = 1 << 56
	// maxSample is the most that one kept packet or request may stand for.
	maxSample = math.MaxUint32
)

func registerSample(flags *pflag.FlagSet, text *string, what string) {
	flags.StringVar(text, "sample", sampleAll, "keep this `SHARE`, 1/N or a ratio such as 0.01, of "+what)
}

// parseSample reads --sample: the threshold that the randomness of what is kept is no
// less than, 0 to leave nothing out. It is a rejection threshold as OpenTelemetry has
// it (https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/).
func parseSample(text string) (threshold uint64, err error) {
	if n, ok := strings.CutPrefix(text, "1/"); ok {
		if of, err := strconv.ParseUint(n, 10, 64); err == nil && of > 0 && of <= maxSample {
			return randomnessValues - (randomnessValues+of/2)/of, nil
		}
	} else if ratio, err := strconv.ParseFloat(text, 64); err == nil && ratio >= 1.0/maxSample && ratio <= 1 {
		return randomnessValues - uint64(math.Round(ratio*randomnessValues)), nil
	}
	return 0, fmt.Errorf("read --sample: %q is neither 1/N nor a ratio above 0 and up to 1; write 1/100 or 0.01 (N is at most %d)", text, uint32(maxSample))
}
