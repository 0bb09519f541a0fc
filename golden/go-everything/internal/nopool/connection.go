package nopool

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
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
	// statementMargin is what an answer may take beyond the server's timeout.
	statementMargin = 3 * time.Second
	// writeSize is how much of a statement the server has to take within the time for an answer.
	writeSize = 64 << 10
)

// connection is what an attempt to open a session dials: its connection, and the
// one that pgx makes to cancel a statement.
type connection struct {
	db      *DB
	ctx     context.Context // of log lines
	dialled time.Time
	pgx     *pgx.Conn // nil until it is connected
	flight  *flight
	socket  net.Conn // the first that was dialled, below TLS
	name    string   // application_name

	patience atomic.Int64 // with a statement's answer, in nanoseconds; 0 where a context bounds it

	life       context.Context // of all that was dialled
	giveUp     context.CancelFunc
	connecting sync.WaitGroup // goes on when its caller has left
	unclosed   sync.WaitGroup // itself until it hangs up, what the server has not closed, and what pgx cleans up after it
	ending     sync.Once
}

// connect dials, by a context of its own, and logs in. The connection has a flight, which
// BEGIN can board.
func (c *connection) connect(dialling, ctx context.Context) (err error) {
	config, err := c.db.config.Connector.Config()
	if err != nil {
		return err
	}
	c.name = config.RuntimeParams["application_name"]
	c.db.count(func(total *Snapshot) { total.Dials++ })
	c.life, c.giveUp = context.WithCancel(context.Background())
	var loggedIn atomic.Bool
	dial, build := config.DialFunc, config.BuildFrontend
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if c.flight != nil && !loggedIn.Load() { // pgx would cancel a login that has failed, and the slot may be another's by then
			return nil, errors.New("nothing to cancel: not logged in")
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
		return e, nil
	}
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		c.flight = &flight{reads: r, writes: w}
		return build(c.flight, c.flight)
	}
	c.pgx, err = pgx.ConnectConfig(ctx, config)
	loggedIn.Store(err == nil)
	if err == nil && c.db.config.Types != nil {
		c.db.config.Types(c.pgx.TypeMap())
	}
	if loaded := c.db.loaded.Load(); err == nil && loaded != nil {
		c.pgx.TypeMap().RegisterTypes(*loaded)
	}
	for err == nil && c.pgx.PgConn().Frontend().ReadBufferLen() > 0 { // a refusal that came with ReadyForQuery
		_, err = c.pgx.PgConn().ReceiveMessage(ctx)
	}
	return err
}

// unsolicited reads what the server has said since its last answer, such as why it has
// closed the connection, which it returns.
func (c *connection) unsolicited() (err error) {
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
		defer time.AfterFunc(closeTimeout, c.abandon).Stop()
		if c.pgx != nil {
			c.unclosed.Go(func() { <-c.pgx.PgConn().CleanupDone() }) // a cancel that is under way
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = c.pgx.Close(ctx) // the endpoint knows when the server has closed
			cancel()
		}
		c.unclosed.Done() // of itself
		c.unclosed.Wait()
	})
}

// abandon closes what the server has not, and ends what pgx cleans up, for which it
// would take up to 15 s.
func (c *connection) abandon() {
	c.db.count(func(total *Snapshot) { total.CloseTimeouts++ })
	c.db.log.WarnContext(c.ctx, "database connection close not confirmed by the server")
	c.giveUp()
}

// endpoint is a network connection whose Close returns at once, and which is gone
// when the other side has closed too.
type endpoint struct {
	net.Conn
	of      *connection
	closing sync.Once

	mu      sync.Mutex
	waiting int         // calls that wait for the other side
	watch   *time.Timer // runs while there are any
}

func (e *endpoint) Close() error {
	e.closing.Do(func() { go e.awaitClose() })
	return nil
}

func (e *endpoint) awaitClose() {
	defer e.of.unclosed.Done()
	defer e.Conn.Close()
	if half, ok := e.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // wakes a server that waits for us
	}
	for {
		_ = e.Conn.SetDeadline(time.Time{})                                                 // abandon ends it
		if _, err := io.Copy(io.Discard, e.Conn); !errors.Is(err, os.ErrDeadlineExceeded) { // which pgx sets after it has closed
			return
		}
	}
}

// Read and Write bound each wait for the server, whatever its context: the server's own
// timeout ends nothing when the network is lost.
func (e *endpoint) Read(p []byte) (int, error) { return e.wait(p, e.Conn.Read) }

// Write takes its time for a large statement, as long as the server takes it, too. pgx
// reads meanwhile, and has the same time from the last part on.
func (e *endpoint) Write(p []byte) (written int, err error) {
	for part := range slices.Chunk(p, writeSize) {
		n, err := e.wait(part, e.Conn.Write)
		if written += n; err != nil {
			return written, err
		}
	}
	return written, nil
}

func (e *endpoint) wait(p []byte, do func([]byte) (int, error)) (int, error) {
	limit := time.Duration(e.of.patience.Load())
	if limit == 0 {
		return do(p)
	}
	e.mu.Lock()
	if e.waiting++; e.watch == nil {
		e.watch = time.AfterFunc(limit, e.of.abandon)
	}
	e.watch.Reset(limit)
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.waiting--; e.waiting == 0 {
			e.watch.Stop()
		}
	}()
	return do(p)
}
