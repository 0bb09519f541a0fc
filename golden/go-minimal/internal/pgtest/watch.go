package pgtest

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Within reports whether something comes true in time. What only has to happen some day is given far more time than it
// takes, since machines that run tests are busy.
func Within(limit time.Duration, come func() bool) bool {
	for deadline := time.Now().Add(limit); !come(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// Log keeps what is written to it, to be read at any time.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Tail returns the last ten lines, which is what a failing test shows.
func (l *Log) Tail() string {
	lines := strings.Split(strings.TrimSpace(l.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// Records returns the lines of JSON that have a message, or all for "".
func (l *Log) Records(message string) (found []map[string]any) {
	for line := range strings.Lines(l.String()) {
		var record map[string]any
		if json.Unmarshal([]byte(line), &record) == nil && (message == "" || record["msg"] == message) {
			found = append(found, record)
		}
	}
	return found
}

// Relay passes connections on to a server and counts them as the server does: from the client's connect to the server's
// own close.
type Relay struct {
	Total, Open, Peak atomic.Int32
	target            string
}

// NewRelay returns the URL of a database through a new relay, which ends with the test.
func NewRelay(t testing.TB, databaseURL string) (string, *Relay) {
	t.Helper()
	u := parse(t, databaseURL)
	r := &Relay{target: u.Host}
	if u.Port() == "" {
		r.target = net.JoinHostPort(u.Hostname(), "5432")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	need(t, err)
	t.Cleanup(func() { listener.Close() })
	go r.serve(listener)
	if q := u.Query(); q.Get("sslmode") == "verify-full" && !loopback(u.Hostname()) {
		q.Set("sslmode", "verify-ca") // the certificate does not name this machine
		u.RawQuery = q.Encode()
	}
	u.Host = listener.Addr().String()
	return u.String(), r
}

func (r *Relay) serve(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // closed with the test
		}
		go r.pass(client)
	}
}

func (r *Relay) pass(client net.Conn) {
	r.Total.Add(1)
	now := r.Open.Add(1)
	for peak := r.Peak.Load(); now > peak && !r.Peak.CompareAndSwap(peak, now); {
		peak = r.Peak.Load()
	}
	defer client.Close()
	defer r.Open.Add(-1) // before the client can know
	server, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, server) // until the server closes
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// nearby returns a URL of the same database that the code under test accepts: plaintext is for this machine alone, so a
// server elsewhere that speaks nothing else, such as the container beside a CI job, is reached through a relay here.
func nearby(t testing.TB, databaseURL string) string {
	t.Helper()
	u := parse(t, databaseURL)
	query := u.Query()
	if slices.Contains([]string{"require", "verify-ca", "verify-full"}, query.Get("sslmode")) {
		return databaseURL
	}
	query.Set("sslmode", "disable")
	u.RawQuery = query.Encode()
	if loopback(u.Hostname()) {
		return u.String()
	}
	address, _ := NewRelay(t, u.String())
	return address
}
