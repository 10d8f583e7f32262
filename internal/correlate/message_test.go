package correlate

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func head(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }

func postgres(kind byte, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body)))) + body
}

func mysql(text string) string {
	n := len(text) + 1
	return string([]byte{byte(n), byte(n >> 8), byte(n >> 16), 0, mysqlQuery}) + text
}

// What one packet with sequence number 1000 tells.
func TestRequests(t *testing.T) {
	parent := "traceparent: " + traceparentOf(1)
	comment := "/*action='%2Fa',traceparent='" + traceparentOf(1) + "'*/"
	long := "X: " + strings.Repeat("x", 1000)
	for _, test := range []struct {
		name, data string
		want       []string
		malformed  uint64
	}{
		{"get", head("GET / HTTP/1.1", parent), []string{"1000-%d 1"}, 0},
		{"1.0", head("GET / HTTP/1.0", parent), []string{"1000-%d 1"}, 0},
		{"bare LF", strings.ReplaceAll(head("GET / HTTP/1.1", parent), "\r", ""), []string{"1000-%d 1"}, 0},
		{"any case, any space", head("GET / HTTP/1.1", "TraceParent:\t "+traceparentOf(1)+" \t"), []string{"1000-%d 1"}, 0},
		{"absolute target", head("GET http://a/ HTTP/1.1", parent), []string{"1000-%d 1"}, 0},
		{"unusual method", head("PROPFIND /a HTTP/1.1", parent), []string{"1000-%d 1"}, 0},
		{"without", head("GET / HTTP/1.1", "Host: a"), []string{"1000-%d -"}, 0},
		{"two", head("GET / HTTP/1.1", parent, parent), []string{"1000-%d -"}, 1},
		{"malformed", head("GET / HTTP/1.1", parent+"-"), []string{"1000-%d -"}, 1},
		{"folded", head("GET / HTTP/1.1", parent, " 2"), []string{"1000-%d -"}, 1},
		{"another one folded", head("GET / HTTP/1.1", "A: b", " "+parent, parent), []string{"1000-%d 1"}, 0},
		{"space before the colon", head("GET / HTTP/1.1", "traceparent : "+traceparentOf(1)), []string{"1000-%d -"}, 0},
		{"tracestate is another one", head("GET / HTTP/1.1", "tracestate: "+traceparentOf(1)), []string{"1000-%d -"}, 0},
		{"body", post(1, "body"), []string{"1000-%d 1"}, 0},
		{"body with a head in it", post(1, head("GET / HTTP/1.1")), []string{"1000-%d 1"}, 0},
		{"chunked", head("POST / HTTP/1.1", "Transfer-Encoding: chunked", parent) + "0\r\n\r\n", []string{"1000-… 1"}, 0},
		{"two lengths", head("POST / HTTP/1.1", "Content-Length: 1", "Content-Length: 1", parent) + "a", []string{"1000-… 1"}, 0},
		{"no length", head("POST / HTTP/1.1", "Content-Length: +1", parent) + "a", []string{"1000-… 1"}, 0},
		{"empty length", head("POST / HTTP/1.1", "Content-Length:", parent) + "a", []string{"1000-… 1"}, 0},
		{"huge length", head("POST / HTTP/1.1", "Content-Length: 99999999999999999999", parent), []string{"1000-… 1"}, 0},
		{"folded length", head("POST / HTTP/1.1", "Content-Length: 1", " 2", parent) + "a", []string{"1000-… 1"}, 0},
		{"pipelined", get(1) + get(1), []string{fmt.Sprintf("1000-%d 1", 1000+len(get(1))), fmt.Sprintf("%d-%%d 1", 1000+len(get(1)))}, 0},
		{
			"empty line between", get(1) + "\r\n" + get(1),
			[]string{fmt.Sprintf("1000-%d 1", 1000+len(get(1))), fmt.Sprintf("%d-%%d 1", 1002+len(get(1)))},
			0,
		},
		{"behind it what is none", get(1) + "x" + get(2), []string{fmt.Sprintf("1000-%d 1", 1000+len(get(1)))}, 0},
		{"head beyond what is captured", head("GET / HTTP/1.1", long, long, parent), []string{"1000-… -"}, 0},
		{"known before that", head("GET / HTTP/1.1", parent, long, long), []string{"1000-… 1"}, 0},
		{"http/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", nil, 0},
		{"http/0.9", "GET /\r\n", nil, 0},
		{"an answer", "HTTP/1.1 200 OK\r\n\r\n", nil, 0},
		{"text", "HELLO /world\r\n\r\n", nil, 0},

		{"query", postgres('Q', "select 1 "+comment+"\x00"), []string{"1000-%d 1"}, 0},
		{"comment first", postgres('Q', comment+" select '/*'\x00"), []string{"1000-%d 1"}, 0},
		{"escaped", postgres('Q', "/*traceparent='"+strings.ReplaceAll(traceparentOf(1), "-", "%2D")+"'*/\x00"), []string{"1000-%d 1"}, 0},
		{"in a string", postgres('Q', "select 'a''"+comment+"'\x00"), []string{"1000-%d -"}, 0},
		{"behind a string", postgres('Q', `select '\'`+comment+"\x00"), []string{"1000-%d 1"}, 0},
		{"in an escaped string", postgres('Q', `select E'\'`+comment+"'\x00"), []string{"1000-%d -"}, 0},
		{"in an identifier", postgres('Q', `select "`+comment+`"`+"\x00"), []string{"1000-%d -"}, 0},
		{"in a line's comment", postgres('Q', "select 1 --"+comment+"\n\x00"), []string{"1000-%d -"}, 0},
		{"two comments", postgres('Q', comment+comment+"\x00"), []string{"1000-%d -"}, 1},
		{"no comment", postgres('Q', "select 1 traceparent='"+traceparentOf(1)+"'\x00"), []string{"1000-%d -"}, 0},
		{"not closed", postgres('Q', "select 1 "+comment[:len(comment)-2]+"\x00"), []string{"1000-%d -"}, 0},
		{"quote not closed", postgres('Q', "/*traceparent='"+traceparentOf(1)+"*/\x00"), []string{"1000-%d -"}, 1},
		{"parse", postgres('P', "name\x00select $1 "+comment+"\x00\x00\x00"), []string{"1000-%d 1"}, 0},
		{"name", postgres('P', comment+"\x00select $1\x00\x00\x00"), []string{"1000-%d -"}, 0},
		{
			"parse up to sync",
			postgres('P', "\x00select $1 "+comment+"\x00\x00\x00") + postgres('B', "a") + postgres('E', "b") + postgres('S', ""),
			[]string{"1000-%d 1"},
			0,
		},
		{
			"behind sync", postgres('P', "\x00"+comment+"\x00") + postgres('S', "") + postgres('B', "a"),
			[]string{fmt.Sprintf("1000-%d 1", 1000+len(postgres('P', "\x00"+comment+"\x00"))+5)},
			0,
		},
		{"long query", postgres('Q', strings.Repeat(" ", 2000)+comment+"\x00"), []string{"1000-%d -"}, 0},

		{"mysql", mysql("select 1 " + comment), []string{"1000-%d 1"}, 0},
		{"mysql of 13 bytes", mysql("select 10000"), []string{"1000-%d -"}, 0},
		{"mysql string", mysql(`select '\'` + comment + `'`), []string{"1000-%d -"}, 0},
		{"mysql line", mysql("select 1 #" + comment), []string{"1000-%d -"}, 0},
		{"mysql identifier", mysql("select `\\` " + comment), []string{"1000-%d 1"}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := NewConnections(Options{})
			c.Note(payloadOf(client, 1000, test.data))
			for i, w := range test.want {
				if strings.Contains(w, "%d") {
					test.want[i] = fmt.Sprintf(w, 1000+len(test.data))
				}
			}
			if diff := cmp.Diff(test.want, known(c, client)); diff != "" {
				t.Error(diff)
			}
			if got := c.Counters().Malformed; got != test.malformed {
				t.Errorf("%d malformed", got)
			}
		})
	}
}
