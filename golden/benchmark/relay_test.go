//go:build unix

package benchmark

import (
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// relay passes connections on to a server: it counts them and how often a client
// spoke after the server had, and can be far away.
type relay struct {
	dials, bursts atomic.Int64
}

// through returns a URL of the same database by way of a new relay. delay is
// what it adds to a round trip.
func through(t testing.TB, databaseURL string, delay time.Duration) (string, *relay) {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	r, server := new(relay), u.Host
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			r.dials.Add(1)
			go r.pass(client, server, delay)
		}
	}()
	u.Host = listener.Addr().String()
	return u.String(), r
}

func (r *relay) pass(client net.Conn, server string, delay time.Duration) {
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		client.Close()
		return
	}
	time.Sleep(delay) // TCP's own handshake
	var clientsTurn atomic.Bool
	clientsTurn.Store(true)
	go copyLate(upstream, client, delay/2, func() {
		if clientsTurn.Swap(false) {
			r.bursts.Add(1)
		}
	})
	copyLate(client, upstream, delay/2, func() { clientsTurn.Store(true) })
}

// copyLate copies until from ends, then closes to. What is read while something
// is still on its way follows at its own distance.
func copyLate(to, from net.Conn, delay time.Duration, seen func()) {
	type chunk struct {
		data []byte
		due  time.Time
	}
	underway := make(chan chunk, 1000)
	go func() {
		for c := range underway {
			time.Sleep(time.Until(c.due))
			_, _ = to.Write(c.data)
		}
		time.Sleep(delay)
		to.Close()
	}()
	defer close(underway)
	for {
		buffer := make([]byte, 4<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			seen()
			underway <- chunk{buffer[:n], time.Now().Add(delay)}
		}
		if err != nil {
			return
		}
	}
}
