package pgtest

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"example.com/demo/internal/localpg"
)

// PgBouncerOptions are the limits of a pooler, its certificate, and what it knows of the user. Zero values are generous.
type PgBouncerOptions struct {
	PoolSize      int // connections to Postgres per user and database
	MaxClientConn int // clients, beyond which it refuses at once

	Cert, Key []byte // for 127.0.0.1, in PEM; nil makes them
	Secret    string // the user's, as Postgres keeps it; "" has it derived from the password, anew for each client
}

// configuration is a pgbouncer.ini. No client waits in vain for a first statement: query_wait_timeout is off.
const configuration = `[databases]
* = host=%[1]s port=%[2]s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[3]d
unix_socket_dir =
pool_mode = session
default_pool_size = %[4]d
max_client_conn = %[5]d
query_wait_timeout = 0
server_login_retry = 1
auth_type = scram-sha-256
auth_file = %[6]s/users
client_tls_sslmode = require
client_tls_cert_file = %[6]s/pooler.crt
client_tls_key_file = %[6]s/pooler.key
server_tls_sslmode = prefer
`

// PgBouncer starts a PgBouncer in session mode, with TLS and SCRAM, before the database of a URL from this package, and
// returns the database's URL through it. It is stopped when the test ends. Without the program the test is skipped, or
// fails where CI=true.
func PgBouncer(t testing.TB, databaseURL string, opts PgBouncerOptions) string {
	t.Helper()
	program, err := exec.LookPath("/usr/sbin/pgbouncer") // Debian's place, not on everyone's PATH
	if err != nil {
		program, err = exec.LookPath("pgbouncer")
	}
	if err != nil {
		need(t, fmt.Errorf("no PgBouncer on this machine: install one (Debian: apt-get install pgbouncer, macOS: brew install pgbouncer): %w", err))
	}
	u := parse(t, databaseURL)
	password, _ := u.User.Password()
	dir, port := testDir(t), localpg.FreePort()
	if opts.Cert == nil {
		opts.Cert, opts.Key, err = localpg.NewCertificate()
	}
	need(t, errors.Join(err,
		localpg.WriteFile(filepath.Join(dir, "pooler.crt"), opts.Cert),
		localpg.WriteFile(filepath.Join(dir, "pooler.key"), opts.Key),
		localpg.WriteFile(filepath.Join(dir, "users"), fmt.Appendf(nil, "%q %q\n", u.User.Username(), cmp.Or(opts.Secret, password))),
		localpg.WriteFile(filepath.Join(dir, "pgbouncer.ini"), fmt.Appendf(nil, configuration, u.Hostname(),
			cmp.Or(u.Port(), "5432"), port, cmp.Or(opts.PoolSize, 20), cmp.Or(opts.MaxClientConn, 100), dir))))
	process, err := localpg.StartProcess(life, filepath.Join(dir, "log"), program, filepath.Join(dir, "pgbouncer.ini"))
	need(t, err)
	t.Cleanup(process.Kill)
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	u.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {filepath.Join(dir, "pooler.crt")}}.Encode()
	answers := Within(30*time.Second, func() bool {
		conn, err := net.Dial("tcp", u.Host)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if !answers {
		t.Fatalf("start pgbouncer: %s", process.Complaint())
	}
	return u.String()
}

// testDir makes a folder which the account that servers run as can pass through.
func testDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	need(t, os.Chmod(filepath.Dir(dir), 0o711))
	return dir
}
