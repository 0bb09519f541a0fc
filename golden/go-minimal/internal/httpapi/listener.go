package httpapi

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

const clientTimeout = 10 * time.Second // for a client that takes nothing of its response

// Patient returns a listener whose connections serve a client that reads slowly, and cut
// off one that takes nothing. An http.Server on it needs no WriteTimeout.
func Patient(l net.Listener) net.Listener { return patient{l} }

type patient struct{ net.Listener }

func (l patient) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, err
	}
	return &client{TCPConn: tcp}, nil // its buffer left to the kernel: one of a fixed size bounds what a far client gets in a second
}

type client struct {
	*net.TCPConn
	bound atomic.Pointer[time.Time] // set by a handler, or by what has hijacked the connection
}

// Write tries once a second: the kernel wakes it only when a third of the buffer is free.
func (c *client) Write(p []byte) (n int, err error) {
	for last := time.Now(); ; {
		next, end := time.Now().Add(time.Second), last.Add(clientTimeout)
		if bound := c.bound.Load(); bound != nil && !bound.IsZero() {
			next, end = *bound, *bound
		}
		_ = c.TCPConn.SetWriteDeadline(next)
		taken, err := c.TCPConn.Write(p[n:])
		if n += taken; taken > 0 {
			last = time.Now()
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end) {
			return n, err
		}
	}
}

// ReadFrom writes as Write does. That of TCPConn would meet the deadline of the last Write.
func (c *client) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{c}, r) }

func (c *client) SetWriteDeadline(t time.Time) error {
	c.bound.Store(&t)
	return c.TCPConn.SetWriteDeadline(t)
}

func (c *client) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
