package verify

import (
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
)

// relay passes connections on to a server and counts them as the server does:
// from the client's connect to the server's own close.
type relay struct {
	listener net.Listener
	target   string

	total, open, peak atomic.Int32

	mu    sync.Mutex
	conns []net.Conn
}

// newRelay returns the URL of a database through a new relay.
func newRelay(t *T, databaseURL string) (string, *relay) {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil || u.Hostname() == "" {
		t.Fatal("the database's URL names no host")
	}
	r := &relay{target: u.Host}
	if u.Port() == "" {
		r.target = net.JoinHostPort(u.Hostname(), "5432")
	}
	if r.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.listener.Close(); r.cut() })
	go r.serve()
	u.Host = r.listener.Addr().String()
	if q := u.Query(); q.Get("sslmode") == "verify-full" && !loopback(u.Hostname()) {
		q.Set("sslmode", "verify-ca") // the certificate does not name this machine
		u.RawQuery = q.Encode()
	}
	return u.String(), r
}

func loopback(host string) bool { return host == "127.0.0.1" || host == "localhost" || host == "::1" }

func (r *relay) serve() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		go r.pass(client)
	}
}

func (r *relay) pass(client net.Conn) {
	r.total.Add(1)
	now := r.open.Add(1)
	for {
		if peak := r.peak.Load(); now <= peak || r.peak.CompareAndSwap(peak, now) {
			break
		}
	}
	defer client.Close()
	defer r.open.Add(-1) // before the client can know
	server, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	defer server.Close()
	r.mu.Lock()
	r.conns = append(r.conns, client, server)
	r.mu.Unlock()
	go func() {
		_, _ = io.Copy(server, client)
		if tcp, ok := server.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}()
	_, _ = io.Copy(client, server) // until the server closes
}

// cut breaks all connections, as a network that fails.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}
