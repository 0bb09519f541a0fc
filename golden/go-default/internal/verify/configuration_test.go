package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/config"
	"example.com/demo/internal/connect"
	"example.com/demo/internal/localpg"
	"example.com/demo/internal/localpg/pgtest"
	"example.com/demo/internal/localpg/standin"
	"example.com/demo/internal/nopool"
)

var configurationParts = []part{
	{"NP12", "weak settings are refused", weakRefused},
	{"NP12", "a server without TLS is refused", withoutTLS},
	{"NP12", "the certificate is verified", verifiedCertificate},
	{"NP12", "the password goes to nobody unproven", provenFirst},
	{"NP12", "the channel is bound", boundChannel},
	{"NP12", "a real server's TLS", realTLS},
	{"NP13", "in force, direct", func(t *T) { timeoutsInForce(t, nil) }},
	{"NP13", "in force, through PgBouncer", func(t *T) { timeoutsInForce(t, &pgtest.PgBouncerOptions{}) }},
	{"NP13", "each bound ends what exceeds it, Postgres", serverBounds},
	{"NP13", "each bound ends what exceeds it, stand-in", clientBounds},
	{"NP13", "each is set and can be set", timeoutSettings},
}

// weakRefused goes through every sslmode, for hosts near and far.
func weakRefused(t *T) {
	for mode, strong := range map[string]bool{
		"disable": false, "allow": false, "prefer": false, "": false, "require": true, "verify-ca": true, "verify-full": true,
	} {
		for host, near := range map[string]bool{"127.0.0.1": true, "localhost": true, "10.0.0.1": false, "db.example.com": false} {
			for _, local := range []bool{false, true} {
				_, err := connect.Parse("postgres://u:p@"+host+"/d?sslmode="+mode, connect.Options{AllowPlaintext: local})
				if want := strong || near && local; (err == nil) != want {
					t.Errorf("sslmode %q, host %s, local %v: accepted %v, want %v", mode, host, local, err == nil, want)
				}
			}
		}
	}
	for _, env := range []string{"", "production", "staging"} {
		settings := map[string]string{"APP_ENV": env, "DATABASE_URL": "postgres://u:p@127.0.0.1/d?sslmode=disable"}
		if _, err := config.Load(func(name string) string { return settings[name] }); err == nil {
			t.Errorf("APP_ENV=%q: plaintext was accepted", env)
		}
	}
}

// recorder is a dial function that keeps what was sent in the clear.
type recorder struct {
	mu   sync.Mutex
	sent bytes.Buffer
}

func (r *recorder) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return recorded{conn, r}, nil
}

type recorded struct {
	net.Conn
	to *recorder
}

func (r recorded) CloseWrite() error { return r.Conn.(*net.TCPConn).CloseWrite() }

func (r recorded) Write(p []byte) (int, error) {
	r.to.mu.Lock()
	r.to.sent.Write(p)
	r.to.mu.Unlock()
	return r.Conn.Write(p)
}

// withoutTLS wants nothing in the clear after a server has refused TLS.
func withoutTLS(t *T) {
	plain := standin.Start(t, standin.Options{Auth: standin.Cleartext})
	for _, mode := range []string{"require", "verify-full"} {
		var seen recorder
		b := on(t, withMode(plain.URL(), mode), func(o *benchOptions) { o.DialFunc = seen.dial })
		if err := b.run("select 1"); !errors.Is(err, nopool.ErrConfiguration) {
			t.Errorf("sslmode %s: want ErrConfiguration, got %v", mode, err)
		}
		if strings.Contains(seen.sent.String(), "app") {
			t.Errorf("sslmode %s: something was sent in the clear", mode)
		}
	}
	if n := len(plain.Conns()); n > 0 {
		t.Errorf("%d clients went on without TLS", n)
	}
}

func withMode(databaseURL, mode string) string {
	u, _ := url.Parse(databaseURL)
	q := u.Query()
	q.Set("sslmode", mode)
	u.RawQuery = q.Encode()
	return u.String()
}

// verifiedCertificate wants verify-full to accept the server's own authority
// and no other, and no other name.
func verifiedCertificate(t *T) {
	pooler, other := standin.Start(t, standin.Options{TLS: true}), standin.Start(t, standin.Options{TLS: true})
	if err := on(t, pooler.URL()).run("select 1"); err != nil {
		t.Errorf("the right certificate was refused: %v", err)
	}
	u, _ := url.Parse(other.URL())
	wrong := *u
	right, _ := url.Parse(pooler.URL())
	wrong.RawQuery = right.RawQuery
	if err := on(t, wrong.String()).run("select 1"); !errors.Is(err, nopool.ErrConfiguration) {
		t.Errorf("a certificate of another authority was accepted, or is not an error of the configuration: %v", err)
	}
	if n := len(other.Conns()); n > 0 {
		t.Errorf("a start-up message was sent to a server with the wrong certificate")
	}
}

// provenFirst wants no cleartext password for a server without a verified
// certificate, unless the owner says so.
func provenFirst(t *T) {
	greedy := standin.Start(t, standin.Options{TLS: true, Auth: standin.Cleartext})
	unverified, _, _ := strings.Cut(withMode(greedy.URL(), "require"), "&sslrootcert")
	plain := func(allowed bool) func(*benchOptions) { return func(o *benchOptions) { o.AllowPlainAuth = allowed } }
	if err := on(t, unverified, plain(false)).run("select 1"); !errors.Is(err, nopool.ErrConfiguration) {
		t.Errorf("the password was handed out: %v", err)
	}
	p := start(t, unverified, nil)
	if code, _ := p.wait(15 * time.Second); code == 0 || !strings.Contains(p.logs.String(), "certificate is not verified") {
		t.Errorf("it ended with %d, and should have warned of the certificate: %s", code, p.logs)
	}
	if err := on(t, unverified, plain(true)).run("select 1"); err != nil {
		t.Errorf("refused although allowed: %v", err)
	}
	scram := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM})
	if err := on(t, strings.Split(withMode(scram.URL(), "require"), "&sslrootcert")[0], plain(false)).run("select 1"); err != nil {
		t.Errorf("SCRAM without a verified certificate: %v", err)
	}
}

// boundChannel wants the password proven for the certificate that the server showed,
// where the server offers that. Who sits in between with a certificate of his own,
// which nothing else notices unless certificates are verified, can then not use it.
func boundChannel(t *T) {
	cert, key, err := localpg.NewCertificate()
	pair, err1 := tls.X509KeyPair(cert, key)
	listener, err2 := net.Listen("tcp", "127.0.0.1:0")
	if err := errors.Join(err, err1, err2); err != nil {
		t.Fatal(err)
	}
	proof := make(chan string, 1)
	go func() { proof <- firstProof(listener, pair) }()
	b := on(t, "postgres://app:secret@"+listener.Addr().String()+"/app?sslmode=require", func(o *benchOptions) { o.ConnectTimeout = 5 * time.Second })
	_ = b.run("select 1")
	hash := sha256.Sum256(pair.Certificate[0])
	want := "SCRAM-SHA-256-PLUS c=" + base64.StdEncoding.EncodeToString(append([]byte("p=tls-server-end-point,,"), hash[:]...))
	if got := <-proof; !strings.HasPrefix(got, want+",") {
		t.Errorf("the password was proven by %q, and should have been by %q", got, want)
	}
}

// firstProof is a server that offers channel binding to its first client. It returns
// the mechanism that was chosen, and the proof of the password.
func firstProof(listener net.Listener, pair tls.Certificate) string {
	socket, err := listener.Accept()
	listener.Close()
	if err != nil {
		return err.Error()
	}
	defer socket.Close()
	_, _ = io.ReadFull(socket, make([]byte, 8)) // SSLRequest
	_, _ = socket.Write([]byte("S"))
	conn := tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{pair}})
	server := pgproto3.NewBackend(conn, conn)
	_, err = server.ReceiveStartupMessage()
	ask := func(kind uint32, question pgproto3.BackendMessage) (answer pgproto3.FrontendMessage) {
		server.Send(question)
		if err = errors.Join(err, server.SetAuthType(kind), server.Flush()); err == nil {
			answer, err = server.Receive()
		}
		return answer
	}
	offer := &pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"}}
	first, _ := ask(pgproto3.AuthTypeSASL, offer).(*pgproto3.SASLInitialResponse)
	if first == nil {
		return fmt.Sprint("nothing: ", err)
	}
	mechanism := first.AuthMechanism
	_, nonce, _ := strings.Cut(string(first.Data), "r=")
	salted := &pgproto3.AuthenticationSASLContinue{Data: []byte("r=" + nonce + "x,s=c2FsdA==,i=4096")}
	final, _ := ask(pgproto3.AuthTypeSASLContinue, salted).(*pgproto3.SASLResponse)
	if final == nil {
		return fmt.Sprint(mechanism, " alone: ", err)
	}
	return mechanism + " " + string(final.Data)
}

// realTLS asks a real server.
func realTLS(t *T) {
	server := pgtest.Start(t, localpg.Options{})
	var encrypted bool
	b := on(t, server.URL("postgres"))
	err := b.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		return s.QueryRow(ctx, "select ssl from pg_stat_ssl where pid = pg_backend_pid()").Scan(&encrypted)
	})
	if err != nil || !encrypted {
		t.Errorf("encrypted: %v, %v", encrypted, err)
	}
	b.wantNoneLeft()
}

// timeoutsInForce asks the server for the three bounds it enforces, in a
// session of a request, of background work, and of neither.
func timeoutsInForce(t *T, bouncer *pgtest.PgBouncerOptions) {
	b := real(t, func(o *benchOptions) {
		o.StatementTimeout, o.LockTimeout, o.IdleInTransactionTimeout = 11111*time.Millisecond, 2222*time.Millisecond, 13333*time.Millisecond
		o.bouncer = bouncer
	})
	const inForce = "select string_agg(setting, ' ' order by name) from pg_settings where name in " +
		"('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout')"
	const want = "13333 2222 11111"
	show := func(w http.ResponseWriter, r *http.Request, s *nopool.Session) (err error) {
		var got string
		if err = s.QueryRow(r.Context(), inForce).Scan(&got); err == nil {
			_, err = w.Write([]byte(got))
		}
		return err
	}
	b.handle("GET /", show)
	b.handle("POST /", show)
	for _, method := range []string{"GET", "POST"} {
		if a := b.want(200, method, "/"); a.body != want {
			t.Errorf("%s: in force: %s, want %s", method, a.body, want)
		}
	}
	// A first use that cannot travel with BEGIN.
	err := b.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		var got string
		if _, err := s.Exec(ctx, "select 1; select 2"); err != nil {
			return err
		}
		err := s.QueryRow(ctx, inForce).Scan(&got)
		if got != want {
			t.Errorf("in force: %s, want %s", got, want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	b.wantNoneLeft()
}
