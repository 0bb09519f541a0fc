package connect

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Connector makes connections to one database. It keeps what one has learnt for the
// next: the addresses of the host, the server's TLS session, and how the last attempts
// ended. It is a nopool.Connector.
type Connector struct {
	config *pgx.ConnConfig
	login  *login
	*breaker
	scram atomic.Bool // the last server that let us in had asked for it
}

// newConnector returns a Connector, and changes config to connect by way of it.
func newConnector(config *pgx.ConnConfig, o Options) *Connector {
	dial, resolve := o.DialFunc, o.LookupFunc
	if dial == nil {
		dial = config.DialFunc
	}
	if resolve == nil {
		resolve = config.LookupFunc
	}
	if config.TLSConfig != nil {
		dial = greet(dial)
		// PgBouncer resumes TLS sessions, which saves the certificate's cost.
		config.TLSConfig.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	config.DialFunc = (&dialer{dial: dial, resolve: resolve}).dialHost
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil } // dialHost resolves it
	c := &Connector{config: config, breaker: newBreaker(max(1, o.Processes))}
	c.login = newLogin(config)
	return c
}

// Config returns how to make a connection, one at a time, for the caller to change. It
// returns an error when so many were refused lately that none should be made now. A
// caller who sets one of its hooks must call the former one too.
func (c *Connector) Config() (*pgx.ConnConfig, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	config, since := c.config.Copy(), time.Now()
	build, closes := config.BuildFrontend, config.OnPgError
	var g *guard // of the last connection: migrations make several by one Config
	config.AfterNetConnect = func(ctx context.Context, config *pgconn.Config, conn net.Conn) (net.Conn, error) {
		g = c.newGuard(ctx, since)
		return c.login.start(config, conn, g)
	}
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		g.reads, g.writes = r, w
		return build(g, g)
	}
	config.OnPgError = func(conn *pgconn.PgConn, refusal *pgconn.PgError) bool {
		g.end(refusal)
		return closes(conn, refusal)
	}
	config.AfterConnect = func(context.Context, *pgconn.PgConn) error {
		g.end(nil)
		c.scram.Store(g.scram)
		return nil
	}
	return config, nil
}

// Format shows nothing secret, whatever the verb.
func (c *Connector) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "connector to %s", c.config.Host) }

// Verified reports whether the server must prove who it is with a certificate.
func (c *Connector) Verified() bool { return verified(c.config) }

// SCRAM reports whether the last server that let us in had asked for SCRAM: else it
// got to know the password, or wanted none. It is false before the first connection.
func (c *Connector) SCRAM() bool { return c.scram.Load() }

func verified(config *pgx.ConnConfig) bool {
	return config.TLSConfig != nil &&
		(!config.TLSConfig.InsecureSkipVerify || config.TLSConfig.VerifyPeerCertificate != nil)
}
