module github.com/otel-kprobe/otel-kprobe/test

go 1.26

require github.com/otel-kprobe/otel-kprobe v0.0.0

replace github.com/otel-kprobe/otel-kprobe => ../
