package spans

// JSONEncoder encodes one trace after the other as Envelope.AppendJSON does. Most
// attributes of a block request are those of the one before (device, process,
// cgroup …): their text is copied. It is not safe for concurrent use.
type JSONEncoder struct {
	envelope *Envelope
	roots    attrMemo
	below    attrMemo // of requests on the devices below
}

// NewJSONEncoder makes a JSONEncoder.
func NewJSONEncoder(e *Envelope) *JSONEncoder { return &JSONEncoder{envelope: e} }

// Append appends a trace as one line of OTLP/JSON, byte for byte that of
// AppendJSON.
func (e *JSONEncoder) Append(dst []byte, t *Trace) []byte {
	if !t.Block {
		return e.envelope.AppendJSON(dst, t)
	}
	json := &e.envelope.json
	dst = append(dst, json.head...)
	for i := range t.Spans {
		s := &t.Spans[i]
		var memo *attrMemo
		switch {
		case i == 0:
			memo = &e.roots
		case !s.Wait:
			memo = &e.below
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = json.appendSpan(dst, t, s, memo)
	}
	return append(dst, json.tail...)
}

// patience is how many spans in a row may differ in more than usual before they
// are remembered instead: one of another process now and then is none of them.
const patience = 4

// attrMemo is the attributes of an earlier span and their text.
type attrMemo struct {
	attrs   []Attr
	text    []byte
	ends    []int // of each attribute in text
	usual   int   // attributes in which the first span after that one differed, -1: unknown yet
	strange int   // spans in a row that differed in more
}

// appendAttrs is jsonEnvelope.appendAttrs.
func (m *attrMemo) appendAttrs(dst []byte, e *jsonEnvelope, t *Trace, attrs []Attr) []byte {
	dst = append(dst, '[')
	differ := 0
	for i := 0; i < len(attrs); {
		j := m.equalUntil(i, attrs)
		if j == i {
			differ++
			dst = e.appendAttr(dst, t, attrs, i)
			i++
			continue
		}
		from := 0
		if i > 0 {
			from = m.ends[i-1]
		}
		dst = append(dst, m.text[from:m.ends[j-1]]...)
		i = j
	}
	m.learn(e, t, attrs, differ)
	return append(dst, ']')
}

// equalUntil is the end of the run of attributes from i on that are remembered.
// Lists are not compared.
func (m *attrMemo) equalUntil(i int, attrs []Attr) int {
	for i < len(attrs) && i < len(m.attrs) && attrs[i].Type != TypeList && attrs[i] == m.attrs[i] {
		i++
	}
	return i
}

// learn remembers attributes once spans differ in more than usual.
func (m *attrMemo) learn(e *jsonEnvelope, t *Trace, attrs []Attr, differ int) {
	switch {
	case m.attrs == nil:
	case m.usual < 0:
		m.usual = differ
		return
	case differ <= m.usual:
		m.strange = 0
		return
	default:
		if m.strange++; m.strange < patience {
			return
		}
	}
	m.attrs, m.text, m.ends = append(m.attrs[:0], attrs...), m.text[:0], m.ends[:0]
	for i := range attrs {
		m.text = e.appendAttr(m.text, t, attrs, i)
		m.ends = append(m.ends, len(m.text))
	}
	m.usual, m.strange = -1, 0
}
