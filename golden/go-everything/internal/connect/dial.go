package connect

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// newConnector returns a Connector, and changes config to connect by way of it.
func newConnector(config *pgx.ConnConfig, o Options) *Connector {
	c := &Connector{config: config, dial: o.DialFunc, resolve: o.LookupFunc, login: login{
		password: config.Password, binding: config.ChannelBinding, turns: make(chan struct{}, maxFailures),
		strict: config.RequireAuth != "" || config.ChannelBinding == "require",
	}}
	if c.dial == nil {
		c.dial = config.DialFunc
	}
	if c.resolve == nil {
		c.resolve = config.LookupFunc
	}
	config.DialFunc, config.AfterNetConnect = c.dialHost, c.start
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil } // dialHost resolves it
	// The login enforces these. Without a password pgx cannot give one away later.
	config.RequireAuth, config.ChannelBinding, config.Password = "", "", ""
	if config.TLSConfig != nil {
		// PgBouncer resumes TLS sessions, which saves the certificate's cost.
		config.TLSConfig.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	return c
}

// addressTTL is how long the addresses of the host are kept. Go keeps none, and
// a session that dials must not ask the resolver each time.
const addressTTL = 5 * time.Second

// dialHost is a pgconn.DialFunc that dials the addresses of a host, one at a time,
// until one accepts. Left to itself, pgx would also go on to the next after a
// refusal, and ask a pooler that is full as often as it has addresses.
func (c *Connector) dialHost(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if network == "unix" || err != nil || net.ParseIP(host) != nil { // the last is where pgx cancels a statement
		return c.dial(ctx, network, address)
	}
	known, err := c.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	for i, ip := range known.addresses {
		share, cancel := ctx, context.CancelFunc(func() {})
		if deadline, ok := ctx.Deadline(); ok { // one that is silent must leave time for the others
			share, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(known.addresses)-i))
		}
		var conn net.Conn
		conn, err = c.dial(share, network, net.JoinHostPort(ip, port))
		cancel()
		if err == nil {
			if i > 0 {
				c.hosts.Store(&hosts{from(known.addresses, i), known.until})
			}
			return conn, nil
		}
	}
	return nil, err
}

// hosts are the addresses of the host, the one first that accepted last.
type hosts struct {
	addresses []string
	until     time.Time
}

func (c *Connector) lookup(ctx context.Context, host string) (*hosts, error) {
	known := c.hosts.Load()
	if known != nil && time.Now().Before(known.until) {
		return known, nil
	}
	found, err := c.resolve(ctx, host)
	if err != nil || len(found) == 0 {
		return nil, cmp.Or(err, errors.New("the host has no address"))
	}
	if known != nil {
		found = from(found, max(0, slices.Index(found, known.addresses[0])))
	}
	known = &hosts{found, time.Now().Add(addressTTL)}
	c.hosts.Store(known)
	return known, nil
}

// from returns a list that begins with the one at i and goes round.
func from(list []string, i int) []string { return slices.Concat(list[i:], list[:i]) }

// groups are TLS's key exchanges that are not post-quantum, in the order in which
// Go prefers them. Go sends a key share for its first choice alone, and Postgres up
// to 17 takes another, for which it asks at the price of one more round trip. So
// the groups before the one that the server took last are left out.
var groups = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// encrypt performs the TLS handshake that pgx has prepared, with the groups that the
// server is known to take.
func (c *Connector) encrypt(ctx context.Context, config *tls.Config, prepared *tls.Conn) (*tls.Conn, error) {
	i := slices.Index(groups, tls.CurveID(c.group.Load()))
	if i >= 0 {
		config = config.Clone()
		config.CurvePreferences = groups[i:]
	}
	cork := &corked{Conn: prepared.NetConn()}
	encrypted := tls.Client(cork, config)
	err := encrypted.HandshakeContext(context.WithoutCancel(ctx)) // its deadline bounds it; a context would close it
	if err != nil {
		_, _ = cork.Conn.Write(cork.held) // the alert, which tells the server what we did not accept
	}
	switch {
	case err == nil:
		c.group.Store(uint32(encrypted.ConnectionState().CurveID))
	case isAlert(err) && i >= 0: // transient: the next connection offers all groups again
		c.group.Store(0)
		err = errors.New("the server refuses the group that it chose before: " + err.Error())
	case isAlert(err), errors.As(err, new(*tls.CertificateVerificationError)), errors.As(err, new(tls.RecordHeaderError)):
		err = lasting{err}
	}
	return encrypted, err
}

// isAlert reports whether err is the server's refusal of the TLS handshake (RFC
// 8446, section 6). crypto/tls has a type for it in QUIC alone.
func isAlert(err error) bool {
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && operation.Op == "remote error"
}

// corked is a connection that sends what is written to it when it is read from: the
// end of the TLS handshake travels with the start-up message.
type corked struct {
	net.Conn
	held     []byte
	uncorked bool
}

func (c *corked) Write(p []byte) (int, error) {
	if c.uncorked {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

func (c *corked) Read(p []byte) (int, error) {
	if len(c.held) > 0 {
		if _, err := c.Conn.Write(c.held); err != nil {
			return 0, err
		}
		c.held = nil
	}
	return c.Conn.Read(p)
}
