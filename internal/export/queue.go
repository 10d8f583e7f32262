package export

// Queue is where the spans of an exporter are that have become nothing yet.
type Queue struct {
	Waiting  int // for a batch to be full, or for an upload or write
	Capacity int // of those waiting; 0: bounded by bytes alone
	Flying   int // in uploads or writes
}

func (p *pipeline) level() Queue {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := Queue{Waiting: p.spans, Flying: p.flying}
	if p.cur != nil {
		q.Waiting += p.cur.spans
	}
	if p.o.maxQueueSpans < int(^uint(0)>>1) {
		q.Capacity = p.o.maxQueueSpans
	}
	return q
}

// Queue says how full the queue is; any goroutine may ask at any time.
func (e *OTLP) Queue() Queue { return e.p.level() }

// Queue says how full the queue is; any goroutine may ask at any time.
func (f *File) Queue() Queue { return f.p.level() }
