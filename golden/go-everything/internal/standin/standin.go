// Package standin is a stand-in pooler: a server on the wire that behaves like Supavisor or PgBouncer when it is full,
// slow or broken, which the real ones cannot be told to be. It is for tests alone. It runs no SQL: it tracks
// transactions, answers each statement with a plausible tag, and anything else as the test says.
package standin

import (
	"context"
	"crypto/tls"
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
	"github.com/xdg-go/scram"

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
	ReleaseLag time.Duration // from a client's close until its place is free and we close
	CloseFirst bool          // before that lag, so that no client can see when its place is free
	// CheckOut is how long a client that has authenticated waits to be let in. One that leaves meanwhile is closed at once, and
	// has its place until then: so does Supavisor.
	CheckOut time.Duration
	// OnStep is asked at each step of a connection until it is ready for statements, n being its place in the order of
	// arrival, from 1. It may sleep. What it returns ends the connection; nil goes on.
	OnStep func(n int, step Step) Fault
	// OnStartup is OnStep for a client that has sent the start-up message, which then counts as rejected.
	OnStartup func(n int) Fault
	// OnStatement is asked once for each statement, in its connection's goroutine. It gets a copy of what is known.
	OnStatement func(c *Conn, sql string) Reply
}

// Step is a point in the opening of a connection.
type Step string

// The steps, in order.
const (
	Accepted      Step = "accepted"      // by the socket
	Encrypting    Step = "encrypting"    // TLS was asked for
	Starting      Step = "starting"      // the start-up message has come
	Challenged    Step = "challenged"    // the client wants to authenticate by SCRAM
	Proving       Step = "proving"       // it has given its proof
	Authenticated Step = "authenticated" // it is let in, which it does not know yet
)

// Fault ends a connection at a step: an error that is sent, after AuthenticationOk to a client that was let in, or one of these.
type Fault = *pgproto3.ErrorResponse

// What is done instead of an answer.
var (
	Hang  = Fatal("", "says nothing more until the client closes")
	Drop  = Fatal("", "closes")
	Reset = Fatal("", "closes with a TCP RST")
)

// Reply is what happens to a statement. The zero value is the usual answer, which for a SELECT is one row. Delay comes
// first; of the others at most one is set.
type Reply struct {
	Delay time.Duration
	Error *pgproto3.ErrorResponse // FATAL also ends the connection
	Drop  bool                    // end the connection without a word
	Hang  bool                    // never answer; the client's close ends it, and a cancel request does nothing
	Rows  [][]string              // the columns are text, and named a, b, c …
}

// Conn is what the pooler knows of a client.
type Conn struct {
	N          int               // its place in the order of arrival, from 1
	Parameters map[string]string // of the start-up message
	Statements []string          // as received, in order
	Status     byte              // I, T or E: outside, inside or inside a failed transaction
	Bursts     int               // times the client sent after it had read our answer; the start-up message is the first
	End        string            // how it ended, "" while it is open
}

// Terminated is the End of a connection that the client has ended politely.
const Terminated = "terminated"

// Stats counts what the pooler has seen.
type Stats struct {
	Dials          int // TCP connections accepted, those for cancel requests included
	CancelRequests int
	Passwords      int // answers to a request for authentication, wrong ones included
	Open, Peak     int // clients as the pooler counts them, now and at most
	Rejected       int // clients refused at start-up, by the limit or by OnStartup
}

// Server is a running stand-in. All methods may be called at any time.
type Server struct {
	opts  Options
	tls   *tls.Config
	url   string
	scram *scram.Server
	life  context.Context // ends with the test
	wg    sync.WaitGroup
	mu    sync.Mutex // guards all below, and every Conn they point to
	stats Stats
	conns []*Conn
}

// Start runs a stand-in until the test ends.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	scram, err := newSCRAM()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{opts: opts, scram: scram}
	query := url.Values{"sslmode": {"disable"}}
	if opts.TLS {
		cert, key, err := localpg.NewCertificate()
		pair, err1 := tls.X509KeyPair(cert, key)
		ca := filepath.Join(t.TempDir(), "ca.crt")
		if err := errors.Join(err, err1, os.WriteFile(ca, cert, 0o600)); err != nil {
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
	life, end := context.WithCancel(context.Background()) // not the test's, which ends before its clean-ups run
	s.life = life
	s.wg.Go(func() { s.accept(listener) })
	t.Cleanup(func() {
		end()
		listener.Close()
		s.wg.Wait()
	})
	return s
}

// URL returns the address of a database behind the pooler, password included.
func (s *Server) URL() string { return s.url }

// Stats returns the counters as they are now.
func (s *Server) Stats() (now Stats) {
	s.locked(func() { now = s.stats })
	return now
}

// Conns returns what is known of each client that sent a start-up message, in that order.
func (s *Server) Conns() (now []Conn) {
	s.locked(func() {
		for _, c := range s.conns {
			now = append(now, *c)
		}
	})
	return now
}

func (s *Server) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *Server) accept(listener net.Listener) {
	for {
		socket, err := listener.Accept()
		if err != nil {
			return // closed
		}
		s.wg.Go(func() {
			defer context.AfterFunc(s.life, func() { socket.Close() })()
			s.Serve(socket)
		})
	}
}

// Serve takes a connection from its first byte to its end: one that was accepted, or that the test has made, such as an
// end of a net.Pipe in a bubble of testing/synctest. Its place is free before the socket closes, so that a client which
// waits for the close can rely on it, but for CloseFirst.
func (s *Server) Serve(socket net.Conn) {
	defer socket.Close()
	c := &client{server: s, socket: socket, raw: socket, known: &Conn{Status: 'I'}}
	s.locked(func() { s.stats.Dials++; c.known.N = s.stats.Dials })
	if !c.passes(Accepted) {
		return
	}
	switch first := c.negotiate().(type) {
	case *pgproto3.CancelRequest:
		s.locked(func() { s.stats.CancelRequests++ })
	case *pgproto3.StartupMessage:
		if !c.passes(Starting) {
			return
		}
		if refusal := s.admit(c.known, first); refusal != nil {
			c.refuse(refusal)
			return
		}
		if c.authenticate() {
			c.converse()
		}
		if s.opts.CloseFirst {
			c.socket.Close()
		}
		s.sleep(s.opts.ReleaseLag)
		s.locked(func() { s.stats.Open-- })
	}
}

// admit registers a client and returns why it may not come in, or nil.
func (s *Server) admit(c *Conn, startup *pgproto3.StartupMessage) (refusal *pgproto3.ErrorResponse) {
	s.locked(func() {
		s.conns = append(s.conns, c)
		c.Parameters = startup.Parameters
	})
	if s.opts.OnStartup != nil {
		refusal = s.opts.OnStartup(c.N)
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

// sleep passes time, but not past the end of the test.
func (s *Server) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-s.life.Done():
	}
}

// Error returns an error that leaves the connection open.
func Error(code, message string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: message}
}

// Fatal returns an error that ends the connection.
func Fatal(code, message string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: message}
}
