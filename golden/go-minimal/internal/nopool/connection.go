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
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// closeTimeout bounds the wait for the server to close a connection. A slot
	// freed by it, because the network is lost, is counted and logged.
	closeTimeout = 5 * time.Second
	// silentTimeout is closeTimeout where the server has owed us an answer for too long.
	silentTimeout = time.Second
	// statementMargin is what an answer may take beyond the server's timeout.
	statementMargin = 3 * time.Second
	// writeSize is how much of a statement the server has to take within the time for an answer.
	writeSize = 64 << 10
)

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
	socket  net.Conn // the first that was dialled, below TLS
	name    string   // application_name

	silent     atomic.Bool     // the server owes us an answer
	life       context.Context // of all that was dialled
	giveUp     context.CancelFunc
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
	c.name = config.RuntimeParams["application_name"]
	c.events.count(func(total *Snapshot) { total.Dials++ })
	c.life, c.giveUp = context.WithCancel(context.Background())
	var loggedIn atomic.Bool
	dial, build := config.DialFunc, config.BuildFrontend
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if c.flight != nil && !loggedIn.Load() { // else the slot could be free by then
			return nil, errNoCancel
		}
		if c.flight == nil {
			ctx = dialling // the pooler does not know of us yet
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.life, cancel)()
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c.unclosed.Add(1)
		if c.socket == nil {
			c.socket = conn
		}
		e := &endpoint{Conn: conn, of: c}
		context.AfterFunc(c.life, func() { conn.Close(); e.Close() }) // which pgx does not after a panic
		e.watch = time.AfterFunc(time.Hour, e.overdue)
		e.watch.Stop()
		return e, nil
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

// unasked reads what the server has said since its last answer, such as why it has closed
// the connection, which it returns.
func (c *connection) unasked() (err error) {
	conn := c.pgx.PgConn()
	for err == nil {
		_ = conn.Conn().SetReadDeadline(time.Now().Add(pending(c.socket)))
		_, err = conn.ReceiveMessage(context.Background())
	}
	if conn.IsClosed() { // and has a deadline of its own
		return err
	}
	_ = conn.Conn().SetReadDeadline(time.Time{})
	return nil
}

// hangUp waits until the opening has ended, sends Terminate, unless the connection is
// closed already, and returns when the server has closed all that was dialled and no
// cancel request is under way, or when their time is over. A pooler counts a connection
// until then, so nobody may dial in its place; and no response may wait for it.
func (c *connection) hangUp() {
	c.ending.Do(func() {
		c.connecting.Wait()
		limit := closeTimeout
		if c.silent.Load() {
			limit = silentTimeout
		}
		defer time.AfterFunc(limit, c.abandon).Stop()
		if c.pgx != nil {
			c.unclosed.Go(func() { <-c.pgx.PgConn().CleanupDone() }) // a cancel that is under way
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = c.pgx.Close(ctx) // the endpoint knows when the server has closed
			cancel()
		}
		c.unclosed.Wait()
	})
}

// abandon closes what the server has not, and ends what pgx cleans up, for which it
// would take up to 15 s.
func (c *connection) abandon() {
	c.events.count(func(total *Snapshot) { total.CloseTimeouts++ })
	c.events.log.WarnContext(c.ctx, "database connection close not confirmed by the server")
	c.giveUp()
}

// endpoint is a network connection whose Close returns at once, and which is gone
// when the other side has closed too.
type endpoint struct {
	net.Conn
	of      *connection
	closing atomic.Bool
	reading atomic.Bool
	watch   *time.Timer // runs while it reads
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
	_ = e.Conn.SetDeadline(time.Time{}) // abandon ends it
	_, _ = io.Copy(io.Discard, e.Conn)
}

// Read bounds each wait for a statement's answer, whatever its context: the server's
// own timeout ends nothing when the network is lost.
func (e *endpoint) Read(p []byte) (int, error) {
	e.reading.Store(true)
	e.expect()
	defer e.watch.Stop()
	defer e.reading.Store(false)
	return e.Conn.Read(p)
}

// Write takes its time when a statement is large, as long as the server takes it, too.
// pgx reads meanwhile, which would count as waiting.
func (e *endpoint) Write(p []byte) (n int, err error) {
	for more := true; more && err == nil; more = n < len(p) {
		var taken int
		taken, err = e.write(p[n:min(n+writeSize, len(p))])
		n += taken
	}
	return n, err
}

func (e *endpoint) write(p []byte) (int, error) {
	defer e.expect()
	if limit := e.patience(); limit > 0 {
		defer time.AfterFunc(limit, e.fallSilent).Stop()
	}
	return e.Conn.Write(p)
}

// expect lets the time for an answer begin.
func (e *endpoint) expect() {
	if limit := e.patience(); limit > 0 && e.reading.Load() {
		e.watch.Reset(limit)
	}
}

func (e *endpoint) patience() time.Duration {
	if e.of.flight == nil {
		return 0
	}
	return time.Duration(e.of.flight.patience.Load())
}

func (e *endpoint) overdue() {
	if e.reading.Load() {
		e.fallSilent()
	}
}

func (e *endpoint) fallSilent() {
	e.of.silent.Store(true)
	_ = e.Conn.SetDeadline(time.Unix(1, 0))
}

// SetDeadline is ignored once the endpoint waits for the other side: pgx resets
// deadlines after it has closed.
func (e *endpoint) SetDeadline(t time.Time) error {
	if e.closing.Load() {
		return nil
	}
	return e.Conn.SetDeadline(t)
}
