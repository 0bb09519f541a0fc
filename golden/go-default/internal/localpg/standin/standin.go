// Package standin is a stand-in pooler: a server on the wire that behaves like Supavisor or PgBouncer when it is full,
// slow or broken, which the real ones cannot be told to be. It is for tests alone. It runs no SQL: it tracks
// transactions, answers each statement with a plausible tag, and anything else as the test says.
package standin

import (
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
	opts      Options
	listener  net.Listener
	tls       *tls.Config
	url       string
	closed    chan struct{}
	wg        sync.WaitGroup
	mu        sync.Mutex // guards all below, and each connection's Info
	stats     Stats
	conns     []*Conn
	listening map[net.Conn]bool
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
	s := &Server{opts: opts, closed: make(chan struct{}), listening: map[net.Conn]bool{}}
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
	var err error
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.url = fmt.Sprintf("postgres://app:%s@%s/app?%s", Password, s.listener.Addr(), query.Encode())
	s.wg.Go(s.accept)
	t.Cleanup(s.Close)
	return s
}

// URL returns the address of a database behind the pooler, password included.
func (s *Server) URL() string { return s.url }

// Close ends every connection and waits for its goroutine. A second call does nothing.
func (s *Server) Close() {
	s.mu.Lock()
	select {
	case <-s.closed:
	default:
		close(s.closed)
		s.listener.Close()
	}
	for conn := range s.listening {
		conn.Close()
	}
	s.mu.Unlock()
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
	defer s.mu.Unlock()
	infos := make([]Info, len(s.conns))
	for i, c := range s.conns {
		infos[i] = c.copyInfo()
	}
	return infos
}

func (s *Server) accept() {
	for {
		raw, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		s.stats.Dials++
		s.listening[raw] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			s.serve(raw)
			raw.Close()
			s.mu.Lock()
			delete(s.listening, raw)
			s.mu.Unlock()
		})
		select {
		case <-s.closed: // Close may have missed this one
			raw.Close()
		default:
		}
	}
}

// serve takes a connection from its first byte to its end. Its place is free before the socket closes, so that a
// client which waits for the close can rely on it.
func (s *Server) serve(raw net.Conn) {
	c := &Conn{server: s, secret: make([]byte, 4)}
	first, err := c.negotiate(raw)
	if err != nil {
		return
	}
	if cancel, ok := first.(*pgproto3.CancelRequest); ok {
		s.cancel(cancel)
		return
	}
	startup, ok := first.(*pgproto3.StartupMessage)
	if !ok {
		return
	}
	if refusal := s.admit(c, startup); refusal != nil {
		c.send(refusal)
		_ = c.backend.Flush()
		return
	}
	if c.authenticate() {
		c.converse()
	}
	s.sleep(s.opts.ReleaseLag)
	s.mu.Lock()
	s.stats.Open--
	s.mu.Unlock()
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
		c.info.End = Refused
		return refusal
	}
	s.stats.Open++
	s.stats.Peak = max(s.stats.Peak, s.stats.Open)
	return nil
}

// cancel interrupts the statement that hangs on a connection, if any.
func (s *Server) cancel(request *pgproto3.CancelRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.CancelRequests++
	if n := int(request.ProcessID); n >= 1 && n <= len(s.conns) && string(s.conns[n-1].secret) == string(request.SecretKey) {
		s.conns[n-1].interrupt()
	}
}

func (s *Server) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.closed:
	}
}

// Error returns an error that leaves the connection open, Fatal one that ends it.
func Error(code, message string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: message}
}

// Fatal returns an error that ends the connection.
func Fatal(code, message string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: message}
}
