package pgtest

import (
	"net"
	"sync/atomic"
)

// Lost is a connection on a network that goes away without a word: what is sent goes
// nowhere, what is received never comes, and nobody closes.
type Lost struct {
	net.Conn
	Gone *atomic.Bool
}

func (l *Lost) Write(p []byte) (int, error) {
	if l.Gone.Load() {
		return len(p), nil
	}
	return l.Conn.Write(p)
}

func (l *Lost) Read(p []byte) (int, error) {
	for {
		if n, err := l.Conn.Read(p); err != nil || !l.Gone.Load() {
			return n, err
		}
	}
}
