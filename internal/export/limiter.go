package export

import (
	"log/slog"
	"time"
)

// warnEvery is how often a lasting trouble is reported.
const warnEvery = 10 * time.Second

// limiter reports the first of many troubles at once and then, every
// warnEvery, how many there were. Its owner's lock guards it.
type limiter struct {
	last   time.Time
	spans  int
	silent int
}

func (l *limiter) warn(log *slog.Logger, message string, spans int, err error) {
	l.spans += spans
	now := time.Now()
	if !l.last.IsZero() && now.Sub(l.last) < warnEvery {
		l.silent++
		return
	}
	attrs := []any{slog.Int("spans", l.spans)}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	if l.silent > 0 {
		attrs = append(attrs, slog.Int("not_reported", l.silent))
	}
	log.Warn(message, attrs...)
	*l = limiter{last: now}
}
