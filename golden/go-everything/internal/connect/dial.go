package connect

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// dialer dials the host, and keeps its addresses.
type dialer struct {
	dial    pgconn.DialFunc
	resolve pgconn.LookupFunc
	known   atomic.Pointer[resolution]
}

// addressTTL is how long the addresses of the host are kept. Go keeps none, and
// a session that dials must not ask the resolver each time.
const (
	addressTTL     = 5 * time.Second
	resolveTimeout = time.Second // where there are old ones to fall back to
)

// dialHost is a pgconn.DialFunc that dials the addresses of a host, one at a time,
// until one accepts. Left to itself, pgx would also go on to the next after a
// refusal, and ask a pooler that is full as often as it has addresses.
func (d *dialer) dialHost(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if network == "unix" || err != nil || net.ParseIP(host) != nil { // the last is where pgx cancels a statement
		return d.dial(ctx, network, address)
	}
	known, err := d.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	for i, ip := range known.addresses {
		share, cancel := ctx, context.CancelFunc(func() {})
		if deadline, ok := ctx.Deadline(); ok { // one that is silent must leave time for the others
			share, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(known.addresses)-i))
		}
		var conn net.Conn
		conn, err = d.dial(share, network, net.JoinHostPort(ip, port))
		cancel()
		if err == nil {
			if i > 0 {
				d.known.Store(&resolution{from(known.addresses, i), known.until})
			}
			return conn, nil
		}
	}
	return nil, err
}

// socket is what a nopool.Session needs of a connection: it closes one half, and looks
// whether anything was said.
type socket interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// greeted is a connection on which the first answer can be an error in the clear: of a
// pooler that is full, or of a server that cannot start a process.
type greeted struct {
	socket
	heard bool
}

// greet returns a pgconn.DialFunc for connections on which TLS is asked for.
func greet(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if s, ok := conn.(socket); ok {
			return &greeted{socket: s}, err
		}
		return conn, err
	}
}

func (g *greeted) Read(p []byte) (int, error) {
	n, err := g.socket.Read(p)
	if n == 0 || g.heard {
		return n, err
	}
	if g.heard = true; p[0] != 'E' {
		return n, err
	}
	said := pgproto3.NewFrontend(io.MultiReader(bytes.NewReader(p[:n]), g.socket), nil)
	said.SetMaxBodyLen(1 << 14)
	message, err := said.Receive()
	if refusal, ok := message.(*pgproto3.ErrorResponse); ok {
		err = pgconn.ErrorResponseToPgError(refusal)
	} else if errors.As(err, new(*pgproto3.ExceededMaxBodyLenErr)) { // text, as before protocol 3
		err = &pgconn.PgError{Severity: "FATAL", Code: "53300", Message: "the server cannot start a process for the connection"}
	}
	return 0, err
}

// resolution is what the resolver said of the host, the address first that accepted last.
type resolution struct {
	addresses []string
	until     time.Time
}

func (d *dialer) lookup(ctx context.Context, host string) (*resolution, error) {
	known := d.known.Load()
	if known != nil && time.Now().Before(known.until) {
		return known, nil
	}
	if known != nil { // others use the old addresses meanwhile, and all do if there are no new ones
		known = &resolution{known.addresses, time.Now().Add(addressTTL)}
		d.known.Store(known)
		short, cancel := context.WithTimeout(ctx, resolveTimeout)
		defer cancel()
		ctx = short
	}
	found, err := d.resolve(ctx, host)
	switch {
	case err == nil && len(found) > 0:
		if known != nil {
			found = from(found, max(0, slices.Index(found, known.addresses[0])))
		}
		known = &resolution{found, time.Now().Add(addressTTL)}
		d.known.Store(known)
	case known == nil:
		return nil, cmp.Or(err, errors.New("the host has no address"))
	}
	return known, nil
}

// from returns a list that begins with the one at i and goes round.
func from(list []string, i int) []string { return slices.Concat(list[i:], list[:i]) }
