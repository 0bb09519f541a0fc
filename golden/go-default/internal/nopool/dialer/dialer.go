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
	"slices"
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
	group     atomic.Uint32                // the tls.CurveID that the server chose last, 0 when unknown
}

// groups are those for the key exchange that are not post-quantum, as Go prefers
// them. Go sends a key share for its first choice alone: Postgres up to 17 answers
// each ClientHello with a HelloRetryRequest, one more round trip, unless the groups
// before the one that it takes are left out.
var groups = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// New returns a Dialer for connect, which it changes and keeps.
func New(connect *pgx.ConnConfig) *Dialer {
	d := &Dialer{connect: connect, addresses: addresses{resolve: connect.LookupFunc}}
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
	if i := slices.Index(groups, tls.CurveID(d.group.Load())); i >= 0 && config.TLSConfig != nil {
		config.TLSConfig.CurvePreferences = groups[i:]
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
