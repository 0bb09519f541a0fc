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
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// startTimeout bounds initdb and the server's start together; both take seconds on a busy machine.
const startTimeout = 90 * time.Second

// Options say what kind of server to start.
type Options struct {
	Dir     string // the cluster's folder, made when missing or empty
	Port    int    // 0 takes a free one
	Durable bool   // survive a crash of the machine, at the price of slow commits
}

// Server is a running Postgres, reachable at 127.0.0.1 alone.
type Server struct {
	*Process
	// Options are complete: Start(ctx, s.Options) after Stop or Kill starts the same server on the same port.
	Options  Options
	binDir   string
	password string // of app and postgres
}

// Start makes the cluster if there is none yet, starts its server, and returns once it answers. ctx bounds the start
// alone. An error is one line that says what is in the way: other data, another version, another server.
func Start(ctx context.Context, opts Options) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	opts.Port = cmp.Or(opts.Port, FreePort())
	binDir, err := findBinaries()
	if err == nil {
		opts.Dir, err = filepath.Abs(opts.Dir)
	}
	s := &Server{Options: opts, binDir: binDir}
	if err == nil {
		err = s.prepare(ctx)
	}
	if err == nil {
		err = s.launch(ctx)
	}
	for range 30 { // the children of a server that was killed hold its memory for a moment
		if err == nil || !strings.Contains(err.Error(), "shared memory block") {
			break
		}
		time.Sleep(100 * time.Millisecond)
		err = s.launch(ctx)
	}
	if err != nil && os.Getuid() == 0 && strings.Contains(err.Error(), "Permission denied") {
		err = fmt.Errorf("%w (Postgres does not run as root, and as another user it cannot go there: "+
			"run this as an ordinary user, or from a folder that is open to others)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("start Postgres on %q: %w", opts.Dir, err)
	}
	return s, nil
}

// prepare makes a cluster if there is none, and removes what the last server left there: its log, and the pid file of a
// crash. Postgres removes the latter too, but not when another program has got that pid since.
func (s *Server) prepare(ctx context.Context) error {
	password, err := os.ReadFile(s.file("password")) // the last thing that initialize makes
	if errors.Is(err, os.ErrNotExist) {
		return s.initialize(ctx)
	}
	s.password = string(password)
	content, _ := os.ReadFile(s.file("postmaster.pid"))
	lines := strings.Split(string(content)+"\n\n\n\n", "\n") // pid, folder, start time, port, …
	if conn, dialErr := net.DialTimeout("tcp", "127.0.0.1:"+lines[3], time.Second); dialErr == nil {
		return errors.Join(err, conn.Close()) // a server is there, and Postgres will refuse to start a second one
	}
	return errors.Join(err, os.RemoveAll(s.file("postmaster.pid")), os.RemoveAll(s.file("server.log")))
}

func (s *Server) file(name string) string { return filepath.Join(s.Options.Dir, name) }

// initialize makes a cluster beside its folder and moves it there when complete, so that an interruption leaves
// nothing half made.
func (s *Server) initialize(ctx context.Context) error {
	dir, parent := s.Options.Dir, filepath.Dir(s.Options.Dir)
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.New("it holds something else than a cluster made here: remove it, or name another folder")
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	draft, err := os.MkdirTemp(parent, ".new-cluster-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(draft)
	s.password = rand.Text()
	data, password := filepath.Join(draft, "data"), filepath.Join(draft, "password")
	if err := errors.Join(own(draft), WriteFile(password, []byte(s.password))); err != nil {
		return err
	}
	initdb, err := StartProcess(filepath.Join(draft, "log"), filepath.Join(s.binDir, "initdb"), "-D", data, "-U", "postgres",
		"--pwfile", password, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync")
	if err == nil {
		err = initdb.wait(ctx)
	}
	if err != nil {
		return err
	}
	if !initdb.cmd.ProcessState.Success() {
		return fmt.Errorf("make a cluster: %s", initdb.Complaint())
	}
	cert, key, err := NewCertificate()
	err = errors.Join(err,
		WriteFile(filepath.Join(data, "server.crt"), cert),
		WriteFile(filepath.Join(data, "server.key"), key),
		WriteFile(filepath.Join(data, "pg_hba.conf"), []byte("hostssl all all 127.0.0.1/32 scram-sha-256\n")),
		os.Rename(password, filepath.Join(data, "password")))
	if err != nil {
		return err
	}
	return os.Rename(data, dir)
}

// launch starts the server and waits for its first answer, which is to have made the role app.
func (s *Server) launch(ctx context.Context) error {
	args := []string{"-D", s.Options.Dir, "-l", "-h", "127.0.0.1", "-p", strconv.Itoa(s.Options.Port), "-k", ""} // no Unix socket
	if !s.Options.Durable {
		args = append(args, "-F", "-c", "full_page_writes=off")
	}
	var err error
	if s.Process, err = StartProcess(s.file("server.log"), filepath.Join(s.binDir, "postgres"), args...); err != nil {
		return err
	}
	for {
		err := s.execute(ctx, "create role app login password '"+s.password+"'", "42710")
		switch refusal, answered := errors.AsType[*pgconn.PgError](err); {
		case err == nil:
			return nil
		case answered && refusal.Code != "57P03": // 57P03: it is starting up
			s.Kill()
			return err
		}
		select {
		case <-s.Done():
			return s.diagnose()
		case <-ctx.Done():
			s.Kill()
			return fmt.Errorf("wait for its answer: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// diagnose returns why the server ended, with what to do where the server does not say.
func (s *Server) diagnose() error {
	complaint := s.Complaint()
	switch {
	case strings.Contains(complaint, "postmaster.pid"):
		return errors.New("another server already runs there: stop it first")
	case strings.Contains(complaint, "incompatible with server"):
		content, _ := os.ReadFile(s.file("PG_VERSION"))
		version := strings.TrimSpace(string(content))
		return fmt.Errorf("it holds data of Postgres %s, and %q is another version: name version %s's folder in EMBEDDED_PG, "+
			"or remove the data to start afresh", version, s.binDir, version)
	}
	return errors.New(complaint)
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
func (s *Server) URL(database string) string { return s.url("app", database) }

// AdminURL is URL for the superuser postgres.
func (s *Server) AdminURL(database string) string { return s.url("postgres", database) }

func (s *Server) url(role, database string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=verify-full&sslrootcert=%s", role, s.password, s.Options.Port,
		url.PathEscape(database), url.QueryEscape(s.file("server.crt")))
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
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certDER, err1 := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	keyDER, err2 := x509.MarshalPKCS8PrivateKey(private)
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER})
	key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return cert, key, errors.Join(err1, err2)
}
