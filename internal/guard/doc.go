// Package guard decides what gives way when tracing costs more than it may: Budget,
// which functions are shed while too many events come; Watchdog, when tracing has to
// end. It is told what was measured, and does nothing itself. It has no clock of its
// own, and nothing in it is safe for concurrent use.
package guard
