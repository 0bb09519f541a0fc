package nopool

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// closeTimeout bounds the wait for the server to close a connection. A slot
// freed by it, because the network is lost, is counted and logged.
const closeTimeout = 5 * time.Second

// end marks the session's end and gives its connection back. The caller holds
// the lock. Saying goodbye to the server, and waiting for its close, is done
// elsewhere, since no response may wait for it.
func (s *Session) end(how outcome) {
	s.done = true
	s.cancel(ErrSessionDone)
	if s.conn != nil {
		s.ended(how)
		go s.release(how)
	}
}

// release frees the slot once the server has closed everything that was dialled
// under it: a pooler counts a connection until then.
func (s *Session) release(how outcome) {
	started := time.Now()
	if s.conn != nil {
		s.lease.hangUp(s.conn)
	}
	clean := s.lease.closed(closeTimeout)
	s.closed(how, started, clean)
	s.db.slots.release()
}

// lease is a slot and what was dialled under it: a connection for each attempt
// to open the session, and another where pgx cancels a statement.
type lease struct {
	dialer  pgconn.DialFunc
	started time.Time     // of the wait for the slot
	waited  time.Duration // for the slot

	mu        sync.Mutex
	endpoints []*endpoint
	cleanups  []<-chan struct{} // of the connections that were open
}

func (l *lease) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dial := l.dialer
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	e := &endpoint{Conn: conn, gone: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endpoints = append(l.endpoints, e)
	return e, nil
}

// hangUp sends Terminate, unless the connection is closed already. It returns
// without waiting for the server.
func (l *lease) hangUp(conn *pgx.Conn) {
	l.mu.Lock()
	l.cleanups = append(l.cleanups, conn.PgConn().CleanupDone())
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the endpoint knows when the server has closed
}

// closed waits until the server has closed all connections of the lease and no
// cancel request is under way. It returns false when the limit came first.
func (l *lease) closed(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	l.mu.Lock()
	waits := l.cleanups // first: a cleanup may dial
	l.mu.Unlock()
	for done := 0; ; {
		for _, wait := range waits {
			select {
			case <-wait:
			case <-timer.C:
				return false
			}
		}
		l.mu.Lock()
		waits = nil
		for ; done < len(l.endpoints); done++ {
			waits = append(waits, l.endpoints[done].gone)
		}
		clean := true
		for _, e := range l.endpoints {
			clean = clean && !e.forced.Load()
		}
		l.mu.Unlock()
		if len(waits) == 0 {
			return clean
		}
	}
}

// endpoint is a network connection whose Close returns at once and whose gone
// channel is closed when the other side has closed too.
type endpoint struct {
	net.Conn
	closing atomic.Bool
	forced  atomic.Bool // given up waiting for the other side
	gone    chan struct{}
}

func (e *endpoint) Close() error {
	if e.closing.Swap(true) {
		return nil
	}
	go func() {
		defer close(e.gone)
		defer e.Conn.Close()
		if half, ok := e.Conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // wakes a server that waits for us
		}
		_ = e.Conn.SetReadDeadline(time.Now().Add(closeTimeout))
		_, err := io.Copy(io.Discard, e.Conn)
		var timeout net.Error
		e.forced.Store(errors.As(err, &timeout) && timeout.Timeout())
	}()
	return nil
}

// SetDeadline is ignored once the endpoint waits for the other side: pgx resets
// deadlines after it has closed.
func (e *endpoint) SetDeadline(t time.Time) error {
	if e.closing.Load() {
		return nil
	}
	return e.Conn.SetDeadline(t)
}
