// Package localpg finds the Postgres that is installed on this machine and runs a private server of it, for the dev
// command and for tests. Its servers speak TLS and SCRAM, so that what works here works against a real one.
package localpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
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
	Dir      string   // the cluster's folder, made when missing or empty
	BinDir   string   // where postgres and initdb are; "" finds them
	Port     int      // 0 takes a free one
	Durable  bool     // survive a crash of the machine, at the price of slow commits
	NoTLS    bool     // be wrong on purpose, for tests
	Settings []string // further settings, each name=value
}

// Server is a running Postgres, reachable at 127.0.0.1 alone. Its process ends with this program.
type Server struct {
	*Process
	// Options are complete: Start(ctx, s.Options) after Stop or Kill starts the same server on the same port.
	Options  Options
	password string
}

// Start makes the cluster if there is none yet, starts its server, and returns once it answers. ctx bounds the start
// alone. An error is one line that says what is in the way: other data, another version, another server.
func Start(ctx context.Context, opts Options) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s := &Server{Options: opts}
	if err := s.prepare(ctx); err != nil {
		if os.Getuid() == 0 && strings.Contains(err.Error(), "Permission denied") {
			err = fmt.Errorf("%w (Postgres does not run as root, and as another user it cannot go there: "+
				"run this as an ordinary user, or from a folder that is open to others)", err)
		}
		return nil, fmt.Errorf("start Postgres: %w", err)
	}
	if err := s.launch(ctx); err != nil {
		return nil, fmt.Errorf("start Postgres on %q: %w", s.Options.Dir, err)
	}
	return s, nil
}

// prepare completes the options and makes sure of a cluster that fits the programs and that no server uses.
func (s *Server) prepare(ctx context.Context) (err error) {
	o := &s.Options
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	if o.BinDir == "" {
		if o.BinDir, err = FindBinaries(); err != nil {
			return err
		}
	}
	if o.Port == 0 {
		o.Port = FreePort()
	}
	data, err := os.ReadFile(filepath.Join(o.Dir, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		err = s.initialize(ctx)
	} else if err == nil {
		err = s.checkUsable(firstNumber(string(data)))
	}
	if err != nil {
		return err
	}
	password, err := os.ReadFile(filepath.Join(o.Dir, "password"))
	s.password = string(password)
	return err
}

// initialize makes a cluster beside its folder and moves it there when complete, so that an interruption leaves
// nothing half made.
func (s *Server) initialize(ctx context.Context) error {
	dir, parent := s.Options.Dir, filepath.Dir(s.Options.Dir)
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%q is something else than a Postgres cluster: remove it, or name another folder", dir)
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	draft, err := os.MkdirTemp(parent, ".new-cluster-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(draft)
	data, password := filepath.Join(draft, "data"), filepath.Join(draft, "password")
	cmd, err := command(ctx, filepath.Join(s.Options.BinDir, "initdb"), "-D", data, "-U", "postgres", "--pwfile", password,
		"-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync")
	if err := errors.Join(err, own(draft), WriteFile(password, []byte(rand.Text()))); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("make a cluster in %q: %w: %s", parent, err, lines[len(lines)-1])
	}
	cert, key, err := NewCertificate()
	return errors.Join(err,
		WriteFile(filepath.Join(data, "server.crt"), cert),
		WriteFile(filepath.Join(data, "server.key"), key),
		os.Rename(password, filepath.Join(data, "password")),
		os.Rename(data, dir))
}

// checkUsable returns an error when the programs are not of the data's major version. It also removes a pid file that
// a crash left behind: Postgres does that too, but not when another program has got that pid since.
func (s *Server) checkUsable(version int) error {
	out, err := exec.Command(filepath.Join(s.Options.BinDir, "postgres"), "--version").Output()
	if err != nil {
		return fmt.Errorf("ask %q for its version: %w", s.Options.BinDir, err)
	}
	if programs := firstNumber(string(out)); programs != version {
		return fmt.Errorf("%q holds data of Postgres %d, but %q is version %d: name version %d's folder in EMBEDDED_PG, "+
			"or remove the data to start afresh", s.Options.Dir, version, s.Options.BinDir, programs, version)
	}
	pidFile := filepath.Join(s.Options.Dir, "postmaster.pid")
	content, _ := os.ReadFile(pidFile)
	lines := strings.Split(string(content)+"\n\n\n\n", "\n") // pid, folder, start time, port, …
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+lines[3], time.Second)
	if err == nil {
		return conn.Close() // a server is there, and Postgres will refuse to start a second one
	}
	if err := os.Remove(pidFile); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// launch starts the server and waits for its first answer.
func (s *Server) launch(ctx context.Context) error {
	o, access, ssl := s.Options, "hostssl", "on"
	if o.NoTLS {
		access, ssl = "host", "off"
	}
	settings := []string{"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(o.Port), "unix_socket_directories=", "ssl=" + ssl}
	if !o.Durable {
		settings = append(settings, "fsync=off", "full_page_writes=off")
	}
	args := []string{"-D", o.Dir}
	for _, setting := range append(settings, o.Settings...) {
		args = append(args, "-c", setting)
	}
	err := WriteFile(filepath.Join(o.Dir, "pg_hba.conf"), []byte(access+" all all 127.0.0.1/32 scram-sha-256\n"))
	if err == nil {
		s.Process, err = StartProcess(filepath.Join(o.Dir, "server.log"), filepath.Join(o.BinDir, "postgres"), args...)
	}
	if err != nil {
		return err
	}
	if err = s.await(ctx); err != nil {
		s.Kill()
	}
	return err
}

// await makes the role app if it is new, trying until the server lets it.
func (s *Server) await(ctx context.Context) error {
	for {
		err := s.execute(ctx, "create role app login password '"+s.password+"'", "42710")
		var refusal *pgconn.PgError
		if err == nil || errors.As(err, &refusal) && refusal.Code != "57P03" { // 57P03: it is starting up
			return err
		}
		select {
		case <-s.Done():
			if complaint := s.Complaint(); !strings.Contains(complaint, "postmaster.pid") {
				return errors.New(complaint)
			}
			return errors.New("another server already runs there: stop it first")
		case <-ctx.Done():
			return fmt.Errorf("wait for its answer: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// CreateDatabase makes a database that belongs to the role app, unless there is one of that name.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	return s.execute(ctx, "create database "+pgx.Identifier{name}.Sanitize()+" owner app template template0", "42P04")
}

// execute runs one statement as the superuser. The given SQLSTATE says that there is nothing left to do.
func (s *Server) execute(ctx context.Context, sql, done string) error {
	conn, err := pgx.Connect(ctx, s.AdminURL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && refusal.Code == done {
		return nil
	}
	return err
}

// URL returns the address, password included, of a database for the role app, which owns what CreateDatabase made and
// is no superuser. It asks for a verified certificate unless the server has none.
func (s *Server) URL(database string) string { return s.url("app", database) }

// AdminURL is URL for the superuser postgres.
func (s *Server) AdminURL(database string) string { return s.url("postgres", database) }

func (s *Server) url(role, database string) string {
	query := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {filepath.Join(s.Options.Dir, "server.crt")}}
	if s.Options.NoTLS {
		query = url.Values{"sslmode": {"disable"}}
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, s.password), Path: "/" + database,
		Host: "127.0.0.1:" + strconv.Itoa(s.Options.Port), RawQuery: query.Encode(),
	}
	return u.String()
}

// FreePort returns a port of 127.0.0.1 that is free now, and below those that outgoing connections get: a client that
// redials a stopped server up there can be connected to itself, and then keeps the port from the server.
func FreePort() int {
	for {
		n, _ := rand.Int(rand.Reader, big.NewInt(12000)) // crypto/rand does not fail
		port := 20000 + int(n.Int64())
		if listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			listener.Close()
			return port
		}
	}
}
