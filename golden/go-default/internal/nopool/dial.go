package nopool

import (
	"context"
	"crypto/tls"
	"errors"
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
	group     atomic.Uint32 // the tls.CurveID that the server chose last, 0 when unknown
	login
}

func newDialer(config *pgx.ConnConfig) *dialer {
	d := &dialer{config: config, login: login{
		password: config.Password, binding: config.ChannelBinding, turns: make(chan struct{}, maxFailures),
		strict: config.RequireAuth != "" || config.ChannelBinding == "require",
	}}
	resolve := config.LookupFunc
	config.LookupFunc = func(ctx context.Context, host string) ([]string, error) { return d.lookup(ctx, host, resolve) }
	config.AfterNetConnect = d.start
	// The login enforces these. Without a password pgx cannot give one away later.
	config.RequireAuth, config.ChannelBinding, config.Password = "", "", ""
	return d
}

// groups are TLS's key exchanges that are not post-quantum, in the order in which
// Go prefers them. Go sends a key share for its first choice alone, and Postgres up
// to 17 takes another, for which it asks at the price of one more round trip. So
// the groups before the one that the server took last are left out.
var groups = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// connect makes one connection, dialled under lease.
func (d *dialer) connect(ctx context.Context, lease *lease) (*pgx.Conn, error) {
	if d.blocked() {
		return nil, errBlocked
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

// lookup returns a single address of the host: pgx would try them all in turn, and
// a pooler that refused us at one would be asked again at the next.
func (d *dialer) lookup(ctx context.Context, host string, resolve pgconn.LookupFunc) ([]string, error) {
	known := d.addresses.Load()
	if known == nil || len(known.all) == 0 || time.Now().After(known.until) {
		all, err := resolve(ctx, host)
		if err != nil || len(all) == 0 {
			return nil, err
		}
		if known != nil && len(known.all) > 0 && slices.Contains(all, known.all[0]) {
			all = append(known.all[:1:1], all...) // those before it may have been skipped, which took longer than the TTL
		}
		known = &addresses{all, time.Now().Add(addressTTL)}
		d.addresses.Store(known)
	}
	return known.all[:1], nil
}

// skip leaves out an address that cannot be dialled until the resolver is asked
// again, which is at the next dial when no other address is left. It reports whether
// there are others.
func (d *dialer) skip(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	known := d.addresses.Load()
	if known == nil {
		return false
	}
	others := slices.DeleteFunc(slices.Clone(known.all), func(a string) bool { return a == host })
	d.addresses.Store(&addresses{others, known.until})
	return len(others) > 0
}

// encrypt finishes the TLS handshake of conn, if it has one. The deadline of conn
// bounds it: a context would close conn, and an endpoint reads on after that.
func (d *dialer) encrypt(ctx context.Context, config *pgconn.Config, conn net.Conn) error {
	encrypted, ok := conn.(*tls.Conn)
	if !ok {
		return nil
	}
	if err := encrypted.HandshakeContext(context.WithoutCancel(ctx)); err != nil {
		if isAlert(err) && config.TLSConfig.CurvePreferences != nil { // transient: the next connection offers all groups again
			d.group.Store(0)
			err = errors.New("the server refuses the group that it chose before: " + err.Error())
		}
		return err
	}
	d.group.Store(uint32(encrypted.ConnectionState().CurveID))
	return nil
}
