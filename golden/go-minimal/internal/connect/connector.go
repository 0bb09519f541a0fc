package connect

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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
func newConnector(config *pgx.ConnConfig, dial pgconn.DialFunc, resolve pgconn.LookupFunc) *Connector {
	if dial == nil {
		dial = config.DialFunc
	}
	if resolve == nil {
		resolve = config.LookupFunc
	}
	if config.TLSConfig != nil {
		dial = greet(dial)
	}
	config.DialFunc = (&dialer{dial: dial, resolve: resolve}).dialHost
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil } // dialHost resolves it
	if config.TLSConfig != nil {
		// PgBouncer resumes TLS sessions, which saves the certificate's cost.
		config.TLSConfig.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	return &Connector{config: config, login: newLogin(config), breaker: newBreaker()}
}

// Config returns how to make a connection, one at a time, for the caller to change. It
// returns an error when so much was refused of late that nobody should connect now. A
// caller who sets one of its hooks must call the former one too.
func (c *Connector) Config() (*pgx.ConnConfig, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	config, g, checked := c.config.Copy(), new(guard), time.Now()
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			c.unreached(checked)
		}
		return conn, err
	}
	config.AfterNetConnect = func(ctx context.Context, config *pgconn.Config, conn net.Conn) (net.Conn, error) {
		*g = guard{breaker: c.breaker, ctx: ctx, checked: checked} // migrations connect by one Config several times
		err := g.goFirst()
		if err == nil {
			conn, err = c.login.start(config, conn, g)
		}
		if err != nil {
			g.end(&g.lost)
		}
		return conn, err
	}
	config.BuildFrontend = g.stand(config.BuildFrontend)
	closes := config.OnPgError
	config.OnPgError = func(conn *pgconn.PgConn, refusal *pgconn.PgError) bool {
		g.refusedBy(refusal)
		return closes(conn, refusal)
	}
	config.AfterConnect = func(context.Context, *pgconn.PgConn) error {
		g.end(&g.accepted)
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
