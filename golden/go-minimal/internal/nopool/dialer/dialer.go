// Package dialer makes each connection profit from those before it, since a
// service that keeps none makes many. It keeps the keys that SCRAM derives from
// the password (4,096 rounds of HMAC, most of a client's work for a session), the
// group that the server wants for TLS, and the addresses of the host; and it stops
// giving a password that is refused.
package dialer

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/xdg-go/scram"
)

// Dialer knows how to connect to one database as one user.
type Dialer struct {
	connect   *pgx.ConnConfig
	addresses addresses
	guard     guard
	strict    bool                         // nothing but SCRAM is accepted
	speak     bool                         // SCRAM in the place of pgx, which keeps no keys
	keys      atomic.Pointer[scram.Client] // derived so far, by salt and rounds
	uses      atomic.Uint32                // of keys
	p256      atomic.Bool                  // the server does not take what Go offers first
}

// New returns a Dialer for connect, which it changes and keeps.
func New(connect *pgx.ConnConfig) *Dialer {
	d := &Dialer{connect: connect}
	d.strict = connect.RequireAuth == "scram-sha-256"
	d.speak = connect.ChannelBinding != "require" && (d.strict || connect.RequireAuth == "")
	if d.speak {
		connect.RequireAuth = "" // pgx would miss the SCRAM that it does not see
	}
	return d
}

// Config returns what one connection is to be made with, through dial and to a
// single address: pgx would try all of the host's in turn, and a pooler that
// refused us at one has refused us. An address that cannot be dialled makes the
// next connection take the next. The error is ErrBlocked. ctx is that of the
// connection.
func (d *Dialer) Config(ctx context.Context, dial pgconn.DialFunc) (*pgx.ConnConfig, error) {
	if err := d.guard.check(); err != nil {
		return nil, err
	}
	config := d.connect.Copy()
	if config.TLSConfig != nil && d.p256.Load() {
		// Go sends a key share for the first group alone. Without this, Postgres up
		// to 17 answers each ClientHello with a HelloRetryRequest: one more round trip.
		config.TLSConfig.CurvePreferences = []tls.CurveID{tls.CurveP256, tls.CurveP384, tls.CurveP521}
	}
	config.LookupFunc = d.addresses.lookup
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			d.addresses.skip()
		}
		return conn, err
	}
	config.AfterNetConnect = func(_ context.Context, config *pgconn.Config, conn net.Conn) (net.Conn, error) {
		return &authConn{Conn: conn, Dialer: d, ctx: ctx, bind: config.ChannelBinding != "disable"}, nil
	}
	return config, nil
}
