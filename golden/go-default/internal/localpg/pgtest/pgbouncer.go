package pgtest

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"example.com/demo/internal/localpg"
)

// PgBouncerOptions are the limits of a pooler. Zero values are generous.
type PgBouncerOptions struct {
	PoolSize         int           // connections to Postgres per user and database
	MaxClientConn    int           // clients, beyond which it refuses at once
	QueryWaitTimeout time.Duration // how long a client beyond PoolSize waits for its first statement
}

// PgBouncer starts a PgBouncer in session mode, with TLS and SCRAM, before the database of a URL from this package, and
// returns the database's URL through it. It is stopped when the test ends. Without the program the test is skipped, or
// fails where CI=true.
func PgBouncer(t testing.TB, databaseURL string, opts PgBouncerOptions) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/pgbouncer") // Debian's place, not on everyone's PATH
	}
	if err != nil {
		lacking(t, "no PgBouncer on this machine: install one (Debian: apt-get install pgbouncer, macOS: brew install pgbouncer)")
	}
	dir, port := testDir(t), localpg.FreePort()
	u, err := url.Parse(databaseURL)
	need(t, err)
	cert, key, err := localpg.NewCertificate()
	need(t, errors.Join(err,
		localpg.WriteFile(filepath.Join(dir, "pooler.crt"), cert),
		localpg.WriteFile(filepath.Join(dir, "pooler.key"), key),
		localpg.WriteFile(filepath.Join(dir, "users"), []byte(authFile(t, databaseURL, u.User))),
		localpg.WriteFile(filepath.Join(dir, "pgbouncer.ini"), []byte(opts.configuration(dir, u, port)))))
	process, err := localpg.StartProcess(filepath.Join(dir, "log"), program, filepath.Join(dir, "pgbouncer.ini"))
	need(t, err)
	t.Cleanup(process.Kill)

	address := fmt.Sprintf("127.0.0.1:%d", port)
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			break
		}
		select {
		case <-process.Done():
			t.Fatalf("start pgbouncer: %s", process.Complaint())
		case <-time.After(20 * time.Millisecond):
		}
	}
	if admin, ok := admins.Load(u.Host); ok {
		admins.Store(address, admin)
	} else {
		admins.Store(address, databaseURL)
	}
	u.Host = address
	u.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {filepath.Join(dir, "pooler.crt")}}.Encode()
	return u.String()
}

// authFile returns the pooler's list of users. With the SCRAM secret that Postgres keeps, the pooler need not derive
// one at every login, which would make it the bottleneck. Only a superuser may read it.
func authFile(t testing.TB, databaseURL string, user *url.Userinfo) string {
	t.Helper()
	secret, _ := user.Password()
	_ = Admin(t, databaseURL).QueryRow(bounded(),
		"select rolpassword from pg_authid where rolname = $1", user.Username()).Scan(&secret)
	return fmt.Sprintf("%q %q\n", user.Username(), secret)
}

func (o PgBouncerOptions) configuration(dir string, server *url.URL, port int) string {
	serverPort := server.Port()
	if serverPort == "" {
		serverPort = "5432"
	}
	or := func(n, otherwise int) int {
		if n == 0 {
			return otherwise
		}
		return n
	}
	return os.Expand(fmt.Sprintf(`[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
pool_mode = session
default_pool_size = %d
max_client_conn = %d
query_wait_timeout = %g
auth_type = scram-sha-256
auth_file = $dir/users
client_tls_sslmode = require
client_tls_cert_file = $dir/pooler.crt
client_tls_key_file = $dir/pooler.key
server_tls_sslmode = prefer
`, server.Hostname(), serverPort, port, or(o.PoolSize, 20), or(o.MaxClientConn, 100),
		max(o.QueryWaitTimeout, 0).Seconds()), func(string) string { return dir })
}
