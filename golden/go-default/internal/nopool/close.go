package nopool

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
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
	db      *DB
	started time.Time      // of the wait for the slot
	waited  time.Duration  // for the slot
	open    sync.WaitGroup // connections that the server has not closed, and what pgx cleans up after them

	mu    sync.Mutex
	conns []net.Conn
}

// dial is a pgconn.DialFunc.
func (l *lease) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dial := l.db.config.DialFunc
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, network, address)
	if err != nil {
		l.db.dialer.skipAddress()
		return nil, err
	}
	l.open.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conn)
	return &endpoint{Conn: conn, gone: l.open.Done}, nil
}

// hangUp sends Terminate, unless the connection is closed already. It returns
// without waiting for the server.
func (l *lease) hangUp(conn *pgx.Conn) {
	l.open.Go(func() { <-conn.PgConn().CleanupDone() }) // a cancel that is under way
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the endpoint knows when the server has closed
}

// awaitGone waits until the server has closed all connections of the lease and
// no cancel request is under way. It returns false when the limit, or the end of
// ctx, came first.
func (l *lease) awaitGone(ctx context.Context, limit time.Duration) bool {
	gone := make(chan struct{})
	go func() { l.open.Wait(); close(gone) }()
	select {
	case <-gone:
		return true
	case <-time.After(limit):
	case <-ctx.Done():
	}
	return false
}

// abandon closes what is still open, whatever the server and pgx wait for on it.
func (l *lease) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.Close()
	}
}

// endpoint is a network connection whose Close returns at once, and which is gone
// when the other side has closed too.
type endpoint struct {
	net.Conn
	closing atomic.Bool
	gone    func()
}

func (e *endpoint) Close() error {
	if !e.closing.Swap(true) {
		go e.awaitClose()
	}
	return nil
}

func (e *endpoint) awaitClose() {
	defer e.gone()
	defer e.Conn.Close()
	if half, ok := e.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // wakes a server that waits for us
	}
	_ = e.Conn.SetDeadline(time.Time{}) // the lease has one
	_, _ = io.Copy(io.Discard, e.Conn)
}

// SetDeadline is ignored once the endpoint waits for the other side: pgx resets
// deadlines after it has closed.
func (e *endpoint) SetDeadline(t time.Time) error {
	if e.closing.Load() {
		return nil
	}
	return e.Conn.SetDeadline(t)
}
