package pgtest

import (
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
)

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
