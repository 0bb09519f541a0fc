package verify

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"example.com/demo/internal/config"
	"example.com/demo/internal/nopool"
)

// live is an engine whose connections and log lines are watched.
type live struct {
	cfg    config.Config
	db     *nopool.DB
	direct bool     // no pooler between here and the server
	logged sync.Map // messages of log lines

	mu    sync.Mutex
	wires []*wire
}

// newLive opens an engine of its own, under a name of its own: the service
// itself may be running beside it.
func newLive(cfg config.Config, logger *slog.Logger) (*live, error) {
	l := &live{cfg: cfg}
	dial := cfg.DB.DialFunc
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	db := cfg.DB
	db.AppName = "verify-" + rand.Text()
	db.Logger = slog.New(tap{logger.Handler(), &l.logged})
	db.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		w := &wire{Conn: conn}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.wires = append(l.wires, w)
		return w, nil
	}
	var err error
	l.db, err = nopool.Open(db)
	return l, err
}

// close ends what a check that failed may have left.
func (l *live) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	_ = l.db.Close(ctx) // NP04 has reported on it
}

// read runs a query of one row in a session of its own.
func (l *live) read(ctx context.Context, sql string, into ...any) error {
	return l.db.Run(ctx, readOnly, func(ctx context.Context, s *nopool.Session) error {
		return s.QueryRow(ctx, sql).Scan(into...)
	})
}

func (l *live) count(is func(*wire) bool) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.wires {
		if is(w) {
			n++
		}
	}
	return n
}

func (l *live) dials() int     { return l.count(func(*wire) bool { return true }) }
func (l *live) open() int      { return l.count(func(w *wire) bool { return !w.closed.Load() }) }
func (l *live) plaintext() int { return l.count(func(w *wire) bool { return w.plaintext.Load() }) }

// dialledFrom reports whether the port that the server sees is one of ours. A
// Unix socket has none and leads to the server itself.
func (l *live) dialledFrom(port string) bool {
	return l.count(func(w *wire) bool {
		address, ok := w.LocalAddr().(*net.TCPAddr)
		return !ok || strconv.Itoa(address.Port) == port
	}) > 0
}

// wire is a connection that looks at the first message it carries.
type wire struct {
	net.Conn
	plaintext atomic.Bool
	closed    atomic.Bool
	decided   atomic.Bool
}

const (
	sslRequest   = 80877103 // the code of Postgres' request for TLS, which goes ahead in the clear
	tlsHandshake = 0x16     // the first byte of a TLS connection
)

func (w *wire) Write(p []byte) (int, error) {
	asksForTLS := len(p) == 8 && binary.BigEndian.Uint32(p[4:]) == sslRequest
	if len(p) > 0 && !asksForTLS && !w.decided.Swap(true) {
		w.plaintext.Store(p[0] != tlsHandshake)
	}
	return w.Conn.Write(p)
}

// CloseWrite lets the engine say goodbye to a server that waits for it.
func (w *wire) CloseWrite() error {
	if half, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (w *wire) Close() error {
	w.closed.Store(true)
	return w.Conn.Close()
}

// tap remembers the messages of all records, also of those that are below the
// level of what it passes them on to.
type tap struct {
	slog.Handler
	seen *sync.Map
}

func (t tap) Enabled(context.Context, slog.Level) bool { return true }

func (t tap) Handle(ctx context.Context, record slog.Record) error {
	t.seen.Store(record.Message, true)
	if !t.Handler.Enabled(ctx, record.Level) {
		return nil
	}
	return t.Handler.Handle(ctx, record)
}
