package nopool

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// dialer makes each connection profit from those before it, since a service that
// keeps none makes many: it keeps the addresses of the host, the group that the
// server wants for TLS, and the keys that SCRAM derives from the password.
type dialer struct {
	config    *pgx.ConnConfig
	addresses atomic.Pointer[addresses]
	turn      atomic.Uint32 // of the addresses
	group     atomic.Uint32 // the tls.CurveID that the server chose last, 0 when unknown
	login     *login
}

func newDialer(config *pgx.ConnConfig) *dialer {
	d := &dialer{config: config, login: newLogin(config)}
	resolve := config.LookupFunc
	config.LookupFunc = func(ctx context.Context, host string) ([]string, error) { return d.lookup(ctx, host, resolve) }
	config.AfterNetConnect = d.authenticate
	config.RequireAuth, config.ChannelBinding = "", "" // authenticate sees to them, and pgx to nothing
	return d
}

// groups are those for the key exchange that are not post-quantum, as Go prefers
// them. Go sends a key share for its first choice alone: Postgres up to 17 answers
// each ClientHello with a HelloRetryRequest, one more round trip, unless the groups
// before the one that it takes are left out.
var groups = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// connect makes one connection, dialled under lease.
func (d *dialer) connect(ctx context.Context, lease *lease) (*pgx.Conn, error) {
	if err := d.login.check(); err != nil {
		return nil, err
	}
	config := d.config.Copy()
	if i := slices.Index(groups, tls.CurveID(d.group.Load())); i >= 0 && config.TLSConfig != nil {
		config.TLSConfig.CurvePreferences = groups[i:]
	}
	config.DialFunc = lease.dial
	return pgx.ConnectConfig(ctx, config)
}

// addressTTL is how long the addresses of the host are kept. Go keeps none, and
// a session that dials must not ask the resolver each time.
const addressTTL = 5 * time.Second

type addresses struct {
	all   []string
	until time.Time
}

// lookup returns a single address: pgx would try all of the host's in turn, and a
// pooler that refused us at one has refused us.
func (d *dialer) lookup(ctx context.Context, host string, resolve pgconn.LookupFunc) ([]string, error) {
	known := d.addresses.Load()
	if known == nil || time.Now().After(known.until) {
		all, err := resolve(ctx, host)
		if err != nil {
			return nil, err
		}
		known = &addresses{all, time.Now().Add(addressTTL)}
		d.addresses.Store(known)
	}
	i := int(d.turn.Load()) % len(known.all)
	return known.all[i : i+1], nil
}

// skipAddress makes the next connection ask again and take the next address.
func (d *dialer) skipAddress() {
	d.turn.Add(1)
	d.addresses.Store(nil)
}

// startedConn is a connection whose start-up is over. pgx starts it all the same:
// what it says goes nowhere, and what it reads is what the server has said.
type startedConn struct {
	net.Conn
	started bool
	unread  []byte
}

func (c *startedConn) Write(p []byte) (int, error) {
	if !c.started { // pgx writes its start-up message at once
		c.started = true
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *startedConn) Read(p []byte) (int, error) {
	if len(c.unread) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}
