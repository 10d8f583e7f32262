package journey

// list is a doubly linked list through the journeys themselves, the one that
// has been silent for longest in front. The zero value is an empty list.
type list struct {
	front, back *open
}

// pushBack adds o, which is in no list.
func (l *list) pushBack(o *open) {
	o.in, o.prev, o.next = l, l.back, nil
	if l.back == nil {
		l.front = o
	} else {
		l.back.next = o
	}
	l.back = o
}

// remove takes o, which is in l, out of it.
func (l *list) remove(o *open) {
	if o.prev == nil {
		l.front = o.next
	} else {
		o.prev.next = o.next
	}
	if o.next == nil {
		l.back = o.prev
	} else {
		o.next.prev = o.prev
	}
	o.in, o.prev, o.next = nil, nil, nil
}
