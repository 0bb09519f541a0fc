package connect

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// texts are what poolers say to a client that opens a connection: the step at which they do, what it means, SQLSTATE and
// text. They are Supavisor's (lib/supavisor/errors, client_handler.ex, auth_query.ex; 2.9), older ones where the versions in
// service differ, PgBouncer's (client.c, objects.c, janitor.c, proto.c; 1.25) and those of Postgres that they pass on.
const texts = `
starting lasting 08P01 (ESTARTUPMESSAGE) Invalid startup message: :bad_startup_payload
starting lasting 08P01 (ESTARTUPPACKETTOOLARGE) Startup packet too large: 1500 bytes (max 1024 bytes)
starting lasting XX000 (EINVALIDUSERINFO) Authentication error, reason: "Invalid format for user or db_name"
starting lasting XX000 (ENOTFOUND) tenant/user app.ref not found
starting lasting XX000 Tenant or user not found
starting lasting XX000 (ENOIDENTIFIER) no tenant identifier provided (external_id or sni_hostname required)
starting lasting XX000 (EMULTIPLEUSERS) multiple users matched for app.ref, check tenant configuration
starting lasting XX000 (EBANNED) tenant is banned: x
starting lasting XX000 (ESSLREQUIRED) SSL connection is required for user: app
starting lasting XX000 SSL connection is required
starting lasting XX000 (EADDRNOTALLOWED) address not in tenant allow_list: {1, 2, 3, 4}
starting full XX000 (EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: 15
starting full XX000 MaxClientsInSessionMode: max clients reached - in Session mode max clients are limited to pool_size
starting full XX000 Max client connections reached
starting full XX000 (EMAXCONN) max client connections reached, limit: 200
starting password XX000 (ECIRCUITBREAKER) too many authentication failures, new connections are temporarily blocked
starting passing XX000 what nobody has met yet
starting passing 57P01 terminating connection due to administrator command
challenged password XX000 (EAUTHQUERY) user not found in the database
challenged password XX000 (EAUTHQUERY) no auth_query configured for this tenant
challenged password XX000 (EAUTHQUERY) authentication query returned wrong format
challenged password XX000 (EAUTHQUERY) unsupported or invalid secret format
challenged password XX000 (EAUTHQUERY) failed to parse SCRAM secret
challenged password XX000 (EAUTHQUERY) MD5 secrets are not supported for auth_query, use require_user instead
challenged unasked XX000 (EAUTHQUERY) authentication query failed: connection to database not available
challenged unasked XX000 (EAUTHQUERY) auth_query secret check timed out
challenged unasked XX000 (ECIRCUITBREAKER) failed to retrieve database credentials after multiple attempts, new connections are temporarily blocked
challenged unasked XX000 (ECIRCUITBREAKER) too many failed attempts to connect to the database, new connections are temporarily blocked
challenged unasked XX000 (EJITREQUESTFAILED) failed to reach JIT provider for user "app"
challenged unasked XX000 Internal error (handshake): :no_auth_config
challenged unasked 08P01 (EAUTHPROTOCOL) protocol violation during authentication
challenged unasked 08006 (EAUTHTIMEOUT) timeout while waiting for message
proving unasked XX000 (EAUTHQUERY) authentication query failed: connection to database not available
proving password 28P01 password authentication failed for user "app"
authenticated password 28P01 Authentication credentials are invalid. Please reconnect with fresh credentials to restore pool functionality.
authenticated full XX000 (EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: 15
authenticated full XX000 (ECHECKOUTTIMEOUT) unable to check out connection from the pool after 15000ms in Session mode
authenticated full XX000 (ECHECKOUTRETRIES) failed to check out a connection after multiple retries
authenticated full XX000 (EPOOLCHECKOUT) pool checkout failed: {:noproc, ...}
authenticated full XX000 (ESUBSCRIBERETRIES) failed to subscribe to tenant after multiple retries. Terminating
authenticated passing XX000 (EMAXPOOLSREACHED) max pools count reached
authenticated passing XX000 (EPROXYSTARTFAILED) failed to start proxy connection
authenticated passing XX000 (EPROXYSUPERVISORUNAVAILABLE) proxy supervisor unavailable after retries
authenticated passing XX000 (EDBHANDLEREXITED) DbHandler exited. Check logs for more information
authenticated passing 08006 Failed to connect to database: {:error, :econnrefused}
authenticated passing 57P03 the database system is starting up
authenticated full 53300 too many connections for role "app"
authenticated full 53300 sorry, too many clients already
authenticated lasting 3D000 database "app" does not exist
authenticated lasting 42501 permission denied for database "app"
authenticated lasting 22023 invalid value for parameter "x"
authenticated password 28000 no pg_hba.conf entry
begin full XX000 (ECHECKOUTTIMEOUT) unable to check out connection from the pool after 60000ms in Transaction mode
starting full 08P01 no more connections allowed (max_client_conn)
authenticated full 08P01 client connections exceeded (max_db_client_connections)
authenticated full 08P01 client connections exceeded (max_user_client_connections)
begin full 08P01 query_wait_timeout
begin full 08P01 query_timeout
starting passing 08P01 client_login_timeout
authenticated passing 08P01 client_login_timeout (server down)
starting passing 08P01 server shutting down
starting passing 08P01 pooler is shutting down
authenticated passing 08P01 database "app" is disabled
authenticated passing 08P01 admin forced disconnect
starting passing 08P01 bouncer config error
starting lasting 08P01 no such database: app
starting lasting 08P01 no such user
starting lasting 08P01 SSL required
starting lasting 08P01 no username supplied
starting lasting 08P01 login rejected
starting lasting 08P01 unix socket login rejected
starting lasting 08P01 not allowed
starting lasting 08P01 username too long
starting lasting 08P01 no authentication method is found
starting lasting 08P01 ldap is not supported by this build
starting lasting 08P01 unsupported startup parameter: statement_timeout
starting lasting 08P01 unsupported startup parameter in options: x
starting lasting 08P01 unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed
challenged lasting 08P01 client selected an invalid SASL authentication mechanism
proving lasting 08P01 password too long
proving lasting 08P01 empty password returned by client
proving password 08P01 SASL authentication failed
proving password 08P01 password authentication failed
proving password 08P01 LDAP authentication failed
proving password 08P01 PAM authentication failed
starting password 08P01 certificate authentication failed
starting password 08P01 "trust" authentication failed
authenticated passing 08P01 server login failed: wrong password type
authenticated passing 08P01 server login failed: none of the server's SASL authentication mechanisms are supported
begin lost 08P01 server login has been failing, cached error: connect failed (server_login_retry)
begin lost 08P01 server login has been failing, cached error: password authentication failed (server_login_retry)
begin lost 08P01 server login has been failing, cached error: sorry, too many clients already (server_login_retry)
begin full 08P01 server login has been failing, cached error: no more connections allowed (max_client_conn) (server_login_retry)
`

// meanings are the kinds of texts. Nothing is given to those who dial once.
var meanings = map[string]struct {
	means meaning
	kind  error
	once  bool // one dial
}{
	"full":     {full, nopool.ErrPoolerFull, false},
	"passing":  {passing, nopool.ErrUnavailable, false},
	"lost":     {passing, nopool.ErrUnavailable, true}, // a pooler says so too when a statement may have run
	"unasked":  {unasked, nopool.ErrUnavailable, true}, // counts at Supavisor
	"lasting":  {lasting, nopool.ErrConfiguration, true},
	"password": {password, nopool.ErrConfiguration, true}, // counts there, too
}

// TestTexts says each at its step, and wants it to be understood.
func TestTexts(t *testing.T) {
	t.Parallel()
	for line := range strings.SplitSeq(strings.TrimSpace(texts), "\n") {
		part := strings.SplitN(line, " ", 4)
		step, want, refusal := standin.Step(part[0]), meanings[part[1]], standin.Fatal(part[2], part[3])
		t.Run(part[3], func(t *testing.T) {
			t.Parallel()
			if means := said(pgconn.ErrorResponseToPgError(refusal)).means; means != want.means {
				t.Errorf("it means %d, want %s", means, part[1])
			}
			pooler := standin.Start(t, standin.Options{
				Auth: standin.SCRAM,
				OnStep: func(_ int, now standin.Step) *pgproto3.ErrorResponse {
					if now == step {
						return refusal
					}
					return nil
				},
				OnStatement: func(*standin.Conn, string) (r standin.Reply) {
					if step == "begin" {
						r.Error = refusal
					}
					return r
				},
			})
			db := on(t, pooler.URL(), func(c *config) { c.ConnectTimeout = 2 * time.Second })
			err := db.Run(t.Context(), nopool.TxOptions{}, selectOne)
			if n := pooler.Stats().Dials; !errors.Is(err, want.kind) || (n == 1) != want.once {
				t.Errorf("%d dials, %v, want %s", n, err, part[1])
			}
		})
	}
}

// TestExplain wants the error of a start to say what to do where its own text does not, and neither user nor database.
func TestExplain(t *testing.T) {
	t.Parallel()
	const tail = "s3cretTAIL"
	for text, want := range map[string]string{
		"XX000 (ENOIDENTIFIER) no tenant identifier provided (external_id or sni_hostname required)":           "postgres.PROJECTREF",
		"XX000 (EAUTHQUERY) MD5 secrets are not supported for auth_query, use require_user instead":            "scram-sha-256",
		"XX000 (ECIRCUITBREAKER) too many authentication failures, new connections are temporarily blocked":    "two minutes",
		"XX000 (EAUTHQUERY) authentication query failed: connection to database not available":                 "not available (SQLSTATE XX000)",
		"XX000 (EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size":   "pool_size (SQLSTATE XX000)",
		"28P01 password authentication failed for user \"" + tail + `"`:                                        "percent-encoded",
		"3D000 database \"" + tail + `" does not exist`:                                                        "3D000",
		"28000 no pg_hba.conf entry for host \"1.2.3.4\", user \"" + tail + "\", database \"" + tail + `", no`: "no (SQLSTATE 28000)",
		"XX000 (ENOTFOUND) tenant/user " + tail + ".ref not found":                                             "postgres.PROJECTREF",
		"XX000 (ESSLREQUIRED) SSL connection is required for user: " + tail:                                    "XX000",
		"XX000 (EAUTHQUERY) user not found in the database":                                                    "percent-encoded",
		"08P01 (ESTARTUPPACKETTOOLARGE) Startup packet too large: 1500 bytes (max 1024 bytes)":                 "shorten",
		"08P01 login rejected":            "auth_hba_file",
		"08P01 no such database: " + tail: "08P01",
	} {
		pooler := standin.Start(t, standin.Options{OnStartup: func(int) *pgproto3.ErrorResponse { return standin.Fatal(text[:5], text[6:]) }})
		connector, err := Parse(strings.Replace(pooler.URL(), "/app?", "/"+tail+"?", 1), Options{AllowPlaintext: true})
		must(t, err)
		config, err := connector.Config()
		must(t, err)
		_, err = pgx.ConnectConfig(t.Context(), config)
		said, _, _ := strings.Cut(strings.ReplaceAll(text[6:], `"`+tail, tail), tail) // up to the first name
		if got := Explain(fmt.Errorf("connect: %w", err)); !strings.HasPrefix(got, "connect: "+said) || !strings.Contains(got, want) ||
			strings.Contains(got, tail) || strings.Contains(got, "\n") {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
