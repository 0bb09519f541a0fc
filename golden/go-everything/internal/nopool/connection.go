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
	"github.com/jackc/pgx/v5/pgproto3"
)

// closeTimeout bounds the wait for the server to close a connection. A slot
// freed by it, because the network is lost, is counted and logged.
const closeTimeout = 5 * time.Second

// errNoCancel is what pgx gets that dials again after a login has failed, to cancel it.
var errNoCancel = errors.New("nothing to cancel: not logged in")

// connection is what an attempt to open a session dials: its connection, and the
// one that pgx makes to cancel a statement.
type connection struct {
	events  *events
	ctx     context.Context // of log lines
	dialled time.Time
	pgx     *pgx.Conn // nil until it is connected
	flight  *flight

	connecting sync.WaitGroup // goes on when its caller has left
	unclosed   sync.WaitGroup // what the server has not closed, and what pgx cleans up after it
	ending     sync.Once
}

// connect dials, by a context of its own, and logs in. The connection has a flight, which
// BEGIN can board.
func (c *connection) connect(dialling, ctx context.Context, to Connector) (err error) {
	config, err := to.Config()
	if err != nil {
		return err
	}
	c.events.count(func(total *Snapshot) { total.Dials++ })
	var loggedIn atomic.Bool
	dial, build := config.DialFunc, config.BuildFrontend
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if c.flight != nil && !loggedIn.Load() { // else the slot could be free by then
			return nil, errNoCancel
		}
		if c.flight == nil {
			ctx = dialling // the pooler does not know of us yet
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c.unclosed.Add(1)
		return &endpoint{Conn: conn, of: c}, nil
	}
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		c.flight = &flight{reads: r, writes: w}
		return build(c.flight, c.flight)
	}
	c.pgx, err = pgx.ConnectConfig(ctx, config)
	loggedIn.Store(err == nil)
	for err == nil && c.pgx.PgConn().Frontend().ReadBufferLen() > 0 { // a refusal that came with ReadyForQuery
		_, err = c.pgx.PgConn().ReceiveMessage(ctx)
	}
	return err
}

// hangUp waits until the opening has ended, sends Terminate, unless the connection is
// closed already, and returns when the server has closed all that was dialled and no
// cancel request is under way. A pooler counts a connection until then, so nobody may dial
// in its place; and no response may wait for it.
func (c *connection) hangUp() {
	c.ending.Do(func() {
		c.connecting.Wait()
		if c.pgx != nil {
			c.unclosed.Go(func() { <-c.pgx.PgConn().CleanupDone() }) // a cancel that is under way, which pgx gives 15 s
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = c.pgx.Close(ctx) // the endpoint knows when the server has closed
			cancel()
		}
		c.unclosed.Wait()
	})
}

// endpoint is a network connection whose Close returns at once, and which is gone
// when the other side has closed too.
type endpoint struct {
	net.Conn
	of      *connection
	closing atomic.Bool
}

func (e *endpoint) Close() error {
	if !e.closing.Swap(true) {
		go e.awaitClose()
	}
	return nil
}

func (e *endpoint) awaitClose() {
	defer e.of.unclosed.Done()
	defer e.Conn.Close()
	if half, ok := e.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // wakes a server that waits for us
	}
	_ = e.Conn.SetDeadline(time.Now().Add(closeTimeout))
	if _, err := io.Copy(io.Discard, e.Conn); errors.Is(err, os.ErrDeadlineExceeded) {
		e.of.events.count(func(total *Snapshot) { total.CloseTimeouts++ })
		e.of.events.log.WarnContext(e.of.ctx, "database connection close not confirmed by the server", "waited", closeTimeout)
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
