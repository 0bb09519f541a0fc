// Package standin is a stand-in pooler: a server on the wire that behaves like Supavisor or PgBouncer when it is full,
// slow or broken, which the real ones cannot be told to be. It is for tests alone. It runs no SQL: it tracks
// transactions, answers each statement with a plausible tag, and anything else as the test says.
package standin

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/localpg"
)

// Auth is how clients authenticate.
type Auth int

// The ways to authenticate. Any user may come; Password is the password of all.
const (
	Trust Auth = iota
	Cleartext
	SCRAM
)

// Password is what Cleartext and SCRAM ask for.
const Password = "stand-in-secret"

// Options say how the pooler behaves. The zero value admits everyone in plaintext and answers at once.
type Options struct {
	TLS        bool
	Auth       Auth
	MaxClients int           // clients at any instant; 0 is no limit
	ReleaseLag time.Duration // from a client's close until its place is free
	// OnStartup is asked at each start-up message, the first being 1, before the limit and authentication. What it
	// returns is sent and ends the connection; nil goes on. It may sleep.
	OnStartup func(n int) *pgproto3.ErrorResponse
	// OnStatement is asked once for each statement, in its connection's goroutine.
	OnStatement func(c *Conn, sql string) Reply
}

// Reply is what happens to a statement. The zero value is the usual answer. Delay comes first; of the others at most
// one is set.
type Reply struct {
	Delay time.Duration
	Error *pgproto3.ErrorResponse // FATAL also ends the connection
	Drop  bool                    // end the connection without a word
	Hang  bool                    // never answer; a cancel request or the client's close ends it
	Rows  [][]string              // the columns are text, and named a, b, c …
}

// Server is a running stand-in. All methods may be called at any time.
type Server struct {
	opts   Options
	tls    *tls.Config
	url    string
	life   context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex // guards all below, and what each Conn says
	stats  Stats
	conns  []*Conn
}

// Stats counts what the pooler has seen.
type Stats struct {
	Dials          int // TCP connections accepted, those for cancel requests included
	CancelRequests int
	Open, Peak     int // clients as the pooler counts them, now and at most
	Rejected       int // clients refused at start-up, by the limit or by OnStartup
}

// Start runs a stand-in until the test ends.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	s := &Server{opts: opts}
	s.life, s.cancel = context.WithCancel(context.Background())
	query := url.Values{"sslmode": {"disable"}}
	if opts.TLS {
		cert, key, err := localpg.NewCertificate()
		if err != nil {
			t.Fatal(err)
		}
		pair, err1 := tls.X509KeyPair(cert, key)
		ca := filepath.Join(t.TempDir(), "ca.crt")
		if err := errors.Join(err1, os.WriteFile(ca, cert, 0o600)); err != nil {
			t.Fatal(err)
		}
		s.tls = &tls.Config{Certificates: []tls.Certificate{pair}}
		query = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {ca}}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = fmt.Sprintf("postgres://app:%s@%s/app?%s", Password, listener.Addr(), query.Encode())
	context.AfterFunc(s.life, func() { listener.Close() })
	s.wg.Go(func() { s.accept(listener) })
	t.Cleanup(s.Close)
	return s
}

// URL returns the address of a database behind the pooler, password included.
func (s *Server) URL() string { return s.url }

// Close ends every connection and waits for its goroutine. A second call does nothing.
func (s *Server) Close() {
	s.cancel()
	s.wg.Wait()
}

// Stats returns the counters as they are now.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Conns returns what is known of each client that sent a start-up message, in that order.
func (s *Server) Conns() []Info {
	s.mu.Lock()
	conns := s.conns
	s.mu.Unlock()
	infos := make([]Info, len(conns))
	for i, c := range conns {
		infos[i] = c.Info()
	}
	return infos
}

func (s *Server) accept(listener net.Listener) {
	for {
		raw, err := listener.Accept()
		if err != nil {
			return // closed
		}
		s.count(func(n *Stats) { n.Dials++ })
		s.wg.Go(func() {
			defer raw.Close()
			defer context.AfterFunc(s.life, func() { raw.Close() })()
			s.serve(raw)
		})
	}
}

func (s *Server) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

// serve takes a connection from its first byte to its end. Its place is free before the socket closes, so that a
// client which waits for the close can rely on it.
func (s *Server) serve(raw net.Conn) {
	c := &Conn{server: s, secret: make([]byte, 4)}
	first, err := c.negotiate(raw)
	if err != nil {
		return
	}
	startup, ok := first.(*pgproto3.StartupMessage)
	if !ok {
		s.interrupt(first.(*pgproto3.CancelRequest))
		return
	}
	if refusal := s.admit(c, startup); refusal != nil {
		c.refuse(refusal)
		return
	}
	if c.authenticate() {
		c.converse()
	}
	select {
	case <-time.After(s.opts.ReleaseLag):
	case <-s.life.Done():
	}
	s.count(func(n *Stats) { n.Open-- })
}

// admit registers a client and returns why it may not come in, or nil.
func (s *Server) admit(c *Conn, startup *pgproto3.StartupMessage) *pgproto3.ErrorResponse {
	s.mu.Lock()
	s.conns = append(s.conns, c)
	c.info.N, c.info.Status, c.info.Parameters = len(s.conns), 'I', startup.Parameters
	binary.BigEndian.PutUint32(c.secret, uint32(c.info.N))
	s.mu.Unlock()
	var refusal *pgproto3.ErrorResponse
	if s.opts.OnStartup != nil {
		refusal = s.opts.OnStartup(c.info.N)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if refusal == nil && s.opts.MaxClients > 0 && s.stats.Open >= s.opts.MaxClients {
		refusal = Fatal("XX000", fmt.Sprintf("(EMAXCONNSESSION) max clients reached in session mode - "+
			"max clients are limited to pool_size: %d", s.opts.MaxClients))
	}
	if refusal != nil {
		s.stats.Rejected++
		return refusal
	}
	s.stats.Open++
	s.stats.Peak = max(s.stats.Peak, s.stats.Open)
	return nil
}

// interrupt wakes the statement that a cancel request is for.
func (s *Server) interrupt(request *pgproto3.CancelRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.CancelRequests++
	for _, c := range s.conns {
		if c.busy && string(c.secret) == string(request.SecretKey) {
			c.cancelled = true
			_ = c.net.SetReadDeadline(time.Unix(1, 0))
		}
	}
}

// Error returns an error that leaves the connection open.
func Error(code, message string) *pgproto3.ErrorResponse { return failure("ERROR", code, message) }

// Fatal returns an error that ends the connection.
func Fatal(code, message string) *pgproto3.ErrorResponse { return failure("FATAL", code, message) }

func failure(severity, code, message string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: code, Message: message}
}
