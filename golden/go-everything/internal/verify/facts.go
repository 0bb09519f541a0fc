package verify

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/config"
	"example.com/demo/internal/nopool"
)

// live is an engine whose connections are watched. It has a name of its own in the server's list, since the service may
// be running beside it.
type live struct {
	nopool.Connector // the owner's
	cfg              config.Config
	name             string
	db               *nopool.DB
	dials            atomic.Int64
	port             atomic.Value // string: the local one of the last dial, "" for a Unix socket

	facts  map[string]string // what the query facts returns, "" for NULL
	direct bool              // no pooler is in between
}

func newLive(cfg config.Config, logger *slog.Logger) (l *live, err error) {
	l = &live{Connector: cfg.DB.Connector, cfg: cfg, name: "verify-" + rand.Text()}
	db := cfg.DB
	db.Connector, db.Logger = l, logger
	l.db, err = nopool.Open(db)
	return l, err
}

// Config is the owner's, under another name and with a record of its dials.
func (l *live) Config() (*pgx.ConnConfig, error) {
	config, err := l.Connector.Config()
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = l.name
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil {
			_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
			l.port.Store(port)
			l.dials.Add(1)
		}
		return conn, err
	}
	return config, nil
}

// facts are what a session sees, as an object in JSON. All values are text: every server, pooler and stand-in gives that
// alike. NULL is the port of a Unix socket, and what there is none of.
const facts = `select json_object_agg(name, value)::text from (values
	('version', split_part(version(), ' on ', 1)),
	('port', inet_client_port()::text),
	('name', current_setting('application_name')),
	('tls', (select version from pg_stat_ssl where pid = pg_backend_pid() and ssl)),
	('timeouts', (select string_agg(setting, ' ' order by name) from pg_settings where name in
		('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout'))),
	('read only', current_setting('transaction_read_only')),
	('isolation', current_setting('transaction_isolation')),
	('allowed', (select least(nullif(rolconnlimit, -1), nullif(datconnlimit, -1),
			current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int)::text
		from pg_roles, pg_database where rolname = current_user and datname = current_database())),
	('migrations', to_regclass('goose_db_version')::text) -- goose's own name for its table
) as facts (name, value)`

const whoAmI = "select pg_backend_pid()::text"

// asked is more than a plain session has, so that explicit can see whether it is given.
var asked = nopool.TxOptions{ReadOnly: true, Isolation: pgx.RepeatableRead}

// read runs a query of one value in a session of its own.
func (l *live) read(ctx context.Context, sql string) (value string, err error) {
	err = l.db.Run(ctx, asked, func(ctx context.Context, s *nopool.Session) error {
		return s.QueryRow(ctx, sql).Scan(&value)
	})
	return value, err
}
