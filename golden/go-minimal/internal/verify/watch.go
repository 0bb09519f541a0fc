package verify

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"strconv"
	"sync"

	"example.org/team/tiny-shop/internal/config"
	"example.org/team/tiny-shop/internal/nopool"
)

// live is an engine whose connections and log lines are watched. It has a name
// of its own in the server's list, since the service may be running beside it.
type live struct {
	cfg    config.Config
	db     *nopool.DB
	direct bool     // no pooler between here and the server
	logged sync.Map // messages of log lines

	mu    sync.Mutex
	dials int
	open  int
	local map[string]bool // ports that were dialled from
}

func newLive(cfg config.Config, logger *slog.Logger) (l *live, err error) {
	l = &live{cfg: cfg, local: map[string]bool{}}
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
		l.mu.Lock()
		defer l.mu.Unlock()
		l.dials++
		l.open++
		port := "" // of a Unix socket, which leads to the server itself
		if tcp, ok := conn.LocalAddr().(*net.TCPAddr); ok {
			port = strconv.Itoa(tcp.Port)
		}
		l.local[port] = true
		return &wire{Conn: conn, live: l}, nil
	}
	l.db, err = nopool.Open(db)
	return l, err
}

// read runs a query of one row in a session of its own. What it reads is text:
// every server, pooler and stand-in gives that alike.
func (l *live) read(ctx context.Context, sql string, into ...any) error {
	return l.db.Run(ctx, readOnly, func(ctx context.Context, s *nopool.Session) error {
		return s.QueryRow(ctx, sql).Scan(into...)
	})
}

// connections returns how many were dialled so far, and how many are open.
func (l *live) connections() (dials, open int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dials, l.open
}

// wire is a connection whose close is counted.
type wire struct {
	net.Conn
	live *live
	once sync.Once
}

func (w *wire) Close() error {
	w.once.Do(func() {
		w.live.mu.Lock()
		defer w.live.mu.Unlock()
		w.live.open--
	})
	return w.Conn.Close()
}

// CloseWrite lets the engine say goodbye to a server that waits for it.
func (w *wire) CloseWrite() error {
	if half, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// tap remembers the messages of all records, also of those that are below the
// level of the handler it passes them on to.
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
