// Package deploy holds what deploy/ has to the program and to those who read it:
// systemd, Kubernetes, dpkg. Some of it needs a program or a release; `make
// check-deploy` builds both and names them:
//
//	OTEL_KPROBE_BIN      the program
//	OTEL_KPROBE_RELEASE  the directory of a release
//
// Without them, the tests that need them are skipped.
package deploy
