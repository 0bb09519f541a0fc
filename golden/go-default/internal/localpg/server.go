// Package localpg finds the Postgres that is installed on this machine and runs a private server of it, for the dev
// command and for tests. Its servers speak TLS and SCRAM, so that what works here works against a real one.
package localpg

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNotFound is returned where the machine has no Postgres. It says how to get one.
var ErrNotFound = errors.New("no Postgres on this machine: install one (Debian: apt-get install postgresql, " +
	"macOS: brew install postgresql@17), or name its folder in EMBEDDED_PG")

// folders are where packages put the server's programs without putting them on PATH. A version has two digits: older
// servers know no SCRAM.
var folders = []string{
	"/usr/lib/postgresql/??/bin", // Debian and Ubuntu
	"/usr/pgsql-??/bin",          // PGDG's packages for Red Hat
	"/opt/homebrew/opt/postgresql@??/bin",
	"/usr/local/opt/postgresql@??/bin", // Homebrew on Intel
	"/Applications/Postgres.app/Contents/Versions/??/bin",
}

// findBinaries returns the folder that holds postgres and initdb. It looks in EMBEDDED_PG (which, when set, is the
// only place), then on PATH, then in the usual folders of packages, newest version first.
func findBinaries() (string, error) {
	dirs, missing := filepath.SplitList(os.Getenv("PATH")), ErrNotFound
	for _, pattern := range folders {
		found, _ := filepath.Glob(pattern) // fails for a malformed pattern alone
		slices.Reverse(found)
		dirs = append(dirs, found...)
	}
	if dir := os.Getenv("EMBEDDED_PG"); dir != "" {
		dirs = []string{dir, filepath.Join(dir, "bin")}
		missing = fmt.Errorf("EMBEDDED_PG %q holds no postgres and initdb: name a folder that does, or unset it", dir)
	}
	for _, dir := range dirs {
		dir, err := filepath.Abs(dir) // PATH may say "" for where we are
		_, err1 := exec.LookPath(filepath.Join(dir, "postgres"))
		_, err2 := exec.LookPath(filepath.Join(dir, "initdb")) // client packages bring psql alone
		if errors.Join(err, err1, err2) == nil {
			return dir, nil
		}
	}
	return "", missing
}

// startTimeout bounds initdb and the server's start together; both take seconds on a busy machine.
const startTimeout = 90 * time.Second

// Options say what kind of server to start.
type Options struct {
	Dir     string // the cluster's folder, made when missing or empty; the log is beside it
	Port    int    // 0 takes a free one
	Durable bool   // survive a crash of the machine, at the price of slow commits
}

// Server is a running Postgres, reachable at 127.0.0.1 alone.
type Server struct {
	*Process
	Options         // complete: Start(ctx, s.Options) after Stop or Kill starts the same server on the same port
	password string // of app and postgres
	stop     context.CancelFunc
}

// Start makes the cluster if there is none yet, starts its server, and returns once it answers. ctx bounds the start
// alone. An error is one line that says what is in the way: other data, another version, another server.
func Start(ctx context.Context, opts Options) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, variable := range os.Environ() { // what is made for psql, such as PGSERVICE, would change or break our own connections
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") && !strings.HasPrefix(name, "PGPASS") {
			_ = os.Unsetenv(name)
		}
	}
	s := &Server{Options: opts}
	s.Port = cmp.Or(opts.Port, FreePort())
	err := s.start(ctx)
	if err != nil && os.Getuid() == 0 && strings.Contains(err.Error(), "Permission denied") {
		err = fmt.Errorf("%w (Postgres does not run as root: run this as an ordinary user, or in a folder open to others)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("start Postgres on %q: %w", opts.Dir, err)
	}
	return s, nil
}

// start makes the cluster and starts the server. Its first answer is to have made the role app.
func (s *Server) start(ctx context.Context) error {
	programs, err := findBinaries()
	if err != nil {
		return err
	}
	if s.Dir, err = filepath.Abs(s.Dir); err != nil {
		return err
	}
	password, err := os.ReadFile(s.file("password")) // the last thing that initialize makes
	if errors.Is(err, os.ErrNotExist) {
		password, err = s.initialize(ctx, filepath.Join(programs, "initdb"))
	}
	if err != nil {
		return err
	}
	args := []string{"-D", s.Dir, "-l", "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port), "-k", ""} // no Unix socket
	if !s.Durable {
		args = append(args, "-F", "-c", "full_page_writes=off")
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.password, s.stop = string(password), stop
	if s.Process, err = StartProcess(life, s.Dir+".log", filepath.Join(programs, "postgres"), args...); err != nil {
		return err
	}
	for {
		err := s.execute(ctx, "create role app login password '"+s.password+"'", "42710")
		if refusal, answered := errors.AsType[*pgconn.PgError](err); err == nil {
			return nil
		} else if answered && refusal.Code != "57P03" { // it is starting up
			s.Stop()
			return err
		}
		select {
		case <-s.Done:
			return errors.New(s.Complaint())
		case <-ctx.Done():
			s.Kill()
			return fmt.Errorf("wait for its answer: %w: %w", ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop shuts the server down in good order.
func (s *Server) Stop() {
	s.stop()
	<-s.Done
}

func (s *Server) file(name string) string { return filepath.Join(s.Dir, name) }

// initialize makes a cluster. initdb removes what it has made when it is interrupted.
func (s *Server) initialize(ctx context.Context, program string) ([]byte, error) {
	if err := os.Remove(s.Dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("it holds something else than a cluster made here: remove it, or name another folder")
	}
	password, file := []byte(rand.Text()), s.Dir+".password"
	defer os.Remove(file)
	err := errors.Join(os.MkdirAll(s.Dir, 0o755), own(s.Dir), WriteFile(file, password))
	if err != nil {
		return nil, err
	}
	initdb, err := StartProcess(ctx, s.Dir+".log", program, "-D", s.Dir, "-U", "postgres",
		"--pwfile", file, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync")
	if err != nil {
		return nil, err
	}
	if <-initdb.Done; !initdb.cmd.ProcessState.Success() {
		return nil, fmt.Errorf("make a cluster: %w", cmp.Or(ctx.Err(), errors.New(initdb.Complaint())))
	}
	cert, key, err := NewCertificate()
	return password, errors.Join(err,
		WriteFile(s.file("server.crt"), cert),
		WriteFile(s.file("server.key"), key),
		WriteFile(s.file("pg_hba.conf"), []byte("hostssl all all 127.0.0.1/32 scram-sha-256\n")),
		os.Rename(file, s.file("password")))
}

// CreateDatabase makes a database that belongs to the role app, unless there is one of that name.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	return s.execute(ctx, "create database "+pgx.Identifier{name}.Sanitize()+" owner app template template0", "42P04")
}

// execute runs one statement as the superuser. An error with the SQLSTATE done counts as success.
func (s *Server) execute(ctx context.Context, sql, done string) error {
	conn, err := pgx.Connect(ctx, s.AdminURL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	if refusal, ok := errors.AsType[*pgconn.PgError](err); ok && refusal.Code == done {
		return nil
	}
	return err
}

// URL returns the address, password included, of a database for the role app, which owns what CreateDatabase made and
// is no superuser. It asks for a verified certificate.
func (s *Server) URL(database string) string {
	ca := strings.ReplaceAll(url.QueryEscape(s.file("server.crt")), "+", "%20") // to pgx and libpq a plus is no space
	return fmt.Sprintf("postgres://app:%s@127.0.0.1:%d/%s?sslmode=verify-full&sslrootcert=%s",
		s.password, s.Port, url.PathEscape(database), ca)
}

// AdminURL is URL for the superuser postgres.
func (s *Server) AdminURL(database string) string {
	return strings.Replace(s.URL(database), "app", "postgres", 1)
}

// FreePort returns a port of 127.0.0.1 that is free now, and below those that outgoing connections get: a client that
// redials a stopped server up there can be connected to itself, and then keeps the port from the server.
func FreePort() int {
	for {
		port := 20000 + mathrand.IntN(12000)
		if listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			listener.Close()
			return port
		}
	}
}

// NewCertificate makes a key and a certificate for localhost and 127.0.0.1, both as PEM. The certificate is its own
// authority, so a client that names it as its sslrootcert trusts this one server and no other. It lasts ten years: a
// development cluster is kept for long.
func NewCertificate() (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		NotAfter:    time.Now().AddDate(10, 0, 0),
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certDER, err1 := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	keyDER, err2 := x509.MarshalPKCS8PrivateKey(private)
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER})
	key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return cert, key, errors.Join(err1, err2)
}
