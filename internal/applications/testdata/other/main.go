// Program other has no function that tells of spans.
package main

import "os"

func main() {
	os.Stdout.WriteString("github.com/otel-kprobe/otel-kprobe/internal/applications/testdata/app/told.note\n")
}
