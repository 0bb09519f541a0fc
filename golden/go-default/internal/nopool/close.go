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
		s.db.count(how.count)
		s.logError(s.err)
		go s.release(how)
	}
}

// release frees the slot once the server has closed everything that was dialled
// under it: a pooler counts a connection until then.
func (s *Session) release(how outcome) {
	ended := time.Now()
	s.lease.hangUp()
	s.closed(how, ended)
	s.db.slots.release()
}

// lease is a slot and what was dialled under it: a session's connection, and the
// one that pgx makes to cancel a statement.
type lease struct {
	db    *DB
	ctx   context.Context // of log lines
	began time.Time
	conn  *pgx.Conn      // nil until it is connected
	open  sync.WaitGroup // connections that the server has not closed, and what pgx cleans up after them

	elsewhere atomic.Bool // the address cannot be dialled, and there is another

	life    context.Context // ends with abandon, which closes what is still open
	abandon context.CancelFunc
}

func newLease(s *Session) *lease {
	l := &lease{db: s.db, ctx: s.ctx, began: time.Now()}
	l.life, l.abandon = context.WithCancel(context.Background())
	return l
}

// dial is a pgconn.DialFunc. The lease counts what it returns as open until the
// server has closed it.
func (l *lease) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dial := l.db.config.DialFunc
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.life, cancel)()
	conn, err := dial(ctx, network, address)
	if err != nil {
		if !errors.Is(context.Cause(ctx), context.Canceled) { // which says nothing of the address
			l.elsewhere.Store(l.db.dialer.skip(address))
		}
		return nil, err
	}
	l.open.Add(1)
	context.AfterFunc(l.life, func() { _ = conn.Close() })
	return &endpoint{Conn: conn, gone: l.open.Done}, nil
}

// hangUp sends Terminate, unless the connection is closed already, and waits until
// the server has closed all that was dialled and no cancel request is under way.
func (l *lease) hangUp() {
	bound := time.AfterFunc(closeTimeout, l.abandon)
	if l.conn != nil {
		l.open.Go(func() { <-l.conn.PgConn().CleanupDone() }) // a cancel that is under way
		ctx, cancel := context.WithTimeout(l.life, time.Second)
		_ = l.conn.Close(ctx) // the endpoint knows when the server has closed
		cancel()
	}
	l.open.Wait()
	if !bound.Stop() {
		l.db.count(func(total *Snapshot) { total.CloseTimeouts++ })
		l.db.log.WarnContext(l.ctx, "database connection close not confirmed by the server", "waited", closeTimeout)
	}
	l.abandon()
}

// giveUp frees the slot of an attempt that failed.
func (l *lease) giveUp() {
	l.hangUp()
	l.db.slots.release()
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
