package nopool

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
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
	s.holding.Store(false)
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
	clean := s.lease.awaitGone(context.Background(), closeTimeout)
	if !clean {
		s.lease.abandon()
	}
	s.closed(how, started, clean)
	s.db.slots.release()
}

// lease is a slot and what was dialled under it: a connection for each attempt
// to open the session, and another where pgx cancels a statement.
type lease struct {
	dialer  pgconn.DialFunc
	started time.Time     // of the wait for the slot
	waited  time.Duration // for the slot

	mu     sync.Mutex
	conns  []net.Conn
	ends   []<-chan struct{} // each closed when a connection is gone, or pgx has cleaned up after one
	forced atomic.Bool       // one of them was given up before the server had closed it
}

func (l *lease) add(end <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = append(l.ends, end)
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
	e := &endpoint{Conn: conn, lease: l, gone: make(chan struct{})}
	l.add(e.gone)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conn)
	return e, nil
}

// hangUp sends Terminate, unless the connection is closed already. It returns
// without waiting for the server.
func (l *lease) hangUp(conn *pgx.Conn) {
	l.add(conn.PgConn().CleanupDone())
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the endpoint knows when the server has closed
}

// awaitGone waits until the server has closed all connections of the lease and
// no cancel request is under way. It returns false when the limit, or the end of
// ctx, came first.
func (l *lease) awaitGone(ctx context.Context, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for i := 0; ; i++ { // a clean-up that is waited for may dial and add one more
		l.mu.Lock()
		ends := l.ends
		l.mu.Unlock()
		if i == len(ends) {
			return !l.forced.Load()
		}
		select {
		case <-ends[i]:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// abandon closes what is still open, whatever pgx waits for on it: it would keep
// a connection until a cancel request is answered.
func (l *lease) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.Close()
	}
}

// endpoint is a network connection whose Close returns at once and whose gone
// channel is closed when the other side has closed too.
type endpoint struct {
	net.Conn
	lease   *lease
	closing atomic.Bool
	gone    chan struct{}
}

func (e *endpoint) Close() error {
	if !e.closing.Swap(true) {
		go e.awaitClose()
	}
	return nil
}

func (e *endpoint) awaitClose() {
	defer close(e.gone)
	defer e.Conn.Close()
	if half, ok := e.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // wakes a server that waits for us
	}
	_ = e.Conn.SetReadDeadline(time.Now().Add(closeTimeout))
	if _, err := io.Copy(io.Discard, e.Conn); errors.Is(err, os.ErrDeadlineExceeded) {
		e.lease.forced.Store(true)
	}
}

// SetDeadline is ignored once the endpoint waits for the other side: pgx resets
// deadlines after it has closed.
func (e *endpoint) SetDeadline(t time.Time) error {
	if e.closing.Load() {
		return nil
	}
	return e.Conn.SetDeadline(t)
}
