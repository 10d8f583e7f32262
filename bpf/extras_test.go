package bpf

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// allExtras asks for everything, as much of it as may be asked for.
func allExtras() Extras {
	x := Extras{StackDrops: true, StackFrames: true, Caller: true, Payload: event.MaxExtraBytes}
	for i := range MaxFields {
		x.Fields = append(x.Fields, FieldPath{
			Offsets: []uint32{0, 8, 16, 24, 32, 40}[:1+i%MaxFieldSteps],
			Bytes:   MaxFieldBytes, At: uint16(i * MaxFieldBytes),
		})
	}
	return x
}

func TestApplyExtrasRefusesWhatTheKernelSideCannot(t *testing.T) {
	field := func(change func(f *FieldPath)) Extras {
		f := FieldPath{Offsets: []uint32{1}, Bytes: 4}
		change(&f)
		return Extras{Fields: []FieldPath{f}}
	}
	tests := []struct {
		name   string
		extras Extras
		want   string // part of the error, "" for none
	}{
		{"nothing", Extras{}, ""},
		{"everything", allExtras(), ""},
		{"too long a payload", Extras{Payload: 257}, "257 bytes of payload"},
		{"too many fields", Extras{Fields: make([]FieldPath, 17)}, "17 fields"},
		{"no step", field(func(f *FieldPath) { f.Offsets = nil }), "0 steps"},
		{"too many steps", field(func(f *FieldPath) { f.Offsets = make([]uint32, 7) }), "7 steps"},
		{"no bytes", field(func(f *FieldPath) { f.Bytes = 0 }), "to 0 bytes"},
		{"too many bytes", field(func(f *FieldPath) { f.Bytes = 17 }), "to 17 bytes"},
		{"beyond the data", field(func(f *FieldPath) { f.At = 254 }), "at 254"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec, err := loadClassic()
			if err != nil {
				t.Fatal(err)
			}
			switch err = applyExtras(spec, tt.extras); {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestExtraSizes(t *testing.T) {
	for name, size := range map[string][2]int{
		"stack":  {stackRecordBytes, binary.Size(classicStackRecord{})},
		"caller": {callerBytes, binary.Size(classicCallerRecord{})},
		"fields": {fieldsHeadBytes + event.MaxExtraBytes, binary.Size(classicFieldsRecord{})},
		"table":  {MaxFields, len(classicExtraSettings{}.Fields)},
		"steps":  {MaxFieldSteps, len(classicExtraSettings{}.Fields[0].Offsets)},
	} {
		if size[0] != size[1] {
			t.Errorf("%s: Go %d, C %d", name, size[0], size[1])
		}
	}
}
