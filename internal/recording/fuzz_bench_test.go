package recording

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func FuzzReader(f *testing.F) {
	file := testFile(f)
	f.Add(file)
	f.Add(file[:200])
	f.Add([]byte(magic))
	f.Add([]byte(magic + "\x02\x00\x00\x00" + entry(KindHeader, 2, "{}") + entry(KindNetNS, 7, "\x00\x00\x00\x00\x02\x00a")))
	f.Add([]byte(magic + "\x02\x00\x00\x00" + entry(KindHeader, 24, `{"block":{"idle_ns":11}}`) +
		entry(KindDevice, 7, "\x00\x00\x80\x00\x01\x00a") + entry(KindCgroup, 11, "\x4d\x00\x00\x00\x00\x01\x00\x00\x01\x00/") +
		entry(KindOperation, 7, "\x09\x00\x00\x00\x01\x00w") + entry(KindRequestFlag, 7, "\x13\x00\x00\x00\x01\x00r")))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := NewReader(bytes.NewReader(data))
		if err == nil {
			_, err = readAll(r)
		}
		var e *Error
		switch {
		case errors.Is(err, io.EOF):
		case !errors.As(err, &e):
			t.Fatalf("an error without an offset: %v", err)
		case e.Offset < 0 || e.Offset > int64(len(data)):
			t.Fatalf("%d bytes: %v", len(data), err)
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	w, err := NewWriter(io.Discard, Header{})
	if err != nil {
		b.Fatal(err)
	}
	raw := make([]byte, 80)
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if err := w.Record(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	var file bytes.Buffer
	w, err := NewWriter(&file, Header{})
	if err != nil {
		b.Fatal(err)
	}
	const records = 10000
	for range records {
		if err := w.Record(make([]byte, 80)); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r, err := NewReader(bytes.NewReader(file.Bytes()))
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
}
