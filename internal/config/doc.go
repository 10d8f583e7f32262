// Package config reads the file of `otel-kprobe run`: YAML of sections with keys,
// held to a Schema. Every mistake in it is one sentence with file, line and column.
// What the values mean is others' business; the same Schema also makes the
// commented example, the JSON schema for editors and the table of the documents.
package config
