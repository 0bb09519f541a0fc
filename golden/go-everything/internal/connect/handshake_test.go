package connect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/localpg"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// config is what a test may change.
type config struct {
	nopool.Config
	Options
}

// on returns a DB on a stand-in pooler, or on whatever else answers at url.
func on(t testing.TB, url string, change func(*config)) *nopool.DB {
	t.Helper()
	c := config{
		nopool.Config{MaxSessions: 4, MaxWaiting: 1000, SessionWait: 30 * time.Second, ConnectTimeout: 5 * time.Second, StatementTimeout: 5 * time.Second},
		Options{AllowPlaintext: true, AllowPlainAuth: true},
	}
	if change != nil {
		change(&c)
	}
	connector, err := Parse(url, c.Options)
	must(t, err)
	c.Connector = connector
	db, err := nopool.Open(c.Config)
	must(t, err)
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	return db
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func selectOne(ctx context.Context, s *nopool.Session) error {
	_, err := s.Exec(ctx, "select 1")
	return err
}

// TestWrongPassword gives a refused password to many sessions at once: Supavisor
// would block this machine's address after ten.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	for _, auth := range []standin.Auth{standin.SCRAM, standin.Cleartext} {
		var proofs atomic.Int32
		pooler := standin.Start(t, standin.Options{TLS: true, Auth: auth, OnStep: func(_ int, step standin.Step) standin.Fault {
			if step == standin.Proving {
				proofs.Add(1)
			}
			return nil
		}})
		db := on(t, strings.Replace(pooler.URL(), standin.Password, "wrong", 1), func(c *config) { c.MaxSessions = 10 })
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); !errors.Is(err, nopool.ErrConfiguration) {
					t.Errorf("%v, want ErrConfiguration", err)
				}
			})
		}
		all.Wait()
		given := int(proofs.Load())
		if auth == standin.Cleartext { // which has no such step
			given = pooler.Stats().Passwords
		}
		if given != 3 {
			t.Errorf("%d passwords were given, want 3", given)
		}
	}
}

// manySessions runs n sessions at once and wants all to succeed.
func manySessions(t *testing.T, db *nopool.DB, n int) {
	t.Helper()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// answering runs a server that speaks as it is told, for each connection.
func answering(t *testing.T, speak func(net.Conn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); speak(conn) }()
		}
	}()
	return listener.Addr().String()
}

// TestSilentHandshake wants ConnectTimeout to bound the TLS handshake with a server
// that says nothing, not even when we close.
func TestSilentHandshake(t *testing.T) {
	t.Parallel()
	address := answering(t, func(conn net.Conn) {
		acceptTLS(conn)
		<-t.Context().Done()
	})
	var all sync.WaitGroup
	for range 10 { // it is a matter of luck
		all.Go(func() {
			db := on(t, "postgres://app:secret@"+address+"/app?sslmode=require", func(c *config) { c.ConnectTimeout = 100 * time.Millisecond })
			ended := make(chan error, 1)
			go func() { ended <- db.Run(context.Background(), nopool.TxOptions{}, selectOne) }()
			select {
			case err := <-ended:
				if !errors.Is(err, nopool.ErrUnavailable) {
					t.Errorf("%v, want ErrUnavailable", err)
				}
			case <-time.After(4 * time.Second):
				t.Error("the handshake outlived its deadline")
			}
		})
	}
	all.Wait()
}

// TestRefusedAtOnce lets a server say that it is ready and, in the same write, that
// it is full: neither the words nor a part of them may be lost.
func TestRefusedAtOnce(t *testing.T) {
	t.Parallel()
	var says []byte
	for _, message := range []pgproto3.BackendMessage{
		&pgproto3.AuthenticationOk{}, &pgproto3.ReadyForQuery{TxStatus: 'I'}, standin.Fatal("53300", "sorry, too many clients already"),
	} {
		says, _ = message.Encode(says)
	}
	for _, first := range []int{len(says), len(says) - 10} {
		address := answering(t, func(conn net.Conn) {
			_, _ = pgproto3.NewBackend(conn, conn).ReceiveStartupMessage()
			_, _ = conn.Write(says[:first])
			time.Sleep(10 * time.Millisecond)
			_, _ = conn.Write(says[first:])
		})
		db := on(t, "postgres://app@"+address+"/app?sslmode=disable", func(c *config) { c.ConnectTimeout = time.Second })
		if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); !errors.Is(err, nopool.ErrPoolerFull) {
			t.Errorf("%d of %d bytes at first: %v, want ErrPoolerFull", first, len(says), err)
		}
	}
}

// TestWrongPasswordBySCRAM refuses passwords as RFC 5802 says, which some poolers do
// instead of sending an error: they count as failures like any others.
func TestWrongPasswordBySCRAM(t *testing.T) {
	t.Parallel()
	var proofs atomic.Int32
	address := answering(t, func(conn net.Conn) {
		server := pgproto3.NewBackend(conn, conn)
		say := func(kind uint32, message pgproto3.BackendMessage) pgproto3.FrontendMessage {
			server.Send(message)
			_, _ = server.SetAuthType(kind), server.Flush()
			answer, _ := server.Receive()
			return answer
		}
		_, _ = server.ReceiveStartupMessage()
		first, ok := say(pgproto3.AuthTypeSASL, &pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}).(*pgproto3.SASLInitialResponse)
		if !ok {
			return
		}
		_, nonce, _ := strings.Cut(string(first.Data), "r=")
		challenge := &pgproto3.AuthenticationSASLContinue{Data: []byte("r=" + nonce + "x,s=c2FsdA==,i=4096")}
		if _, ok := say(pgproto3.AuthTypeSASLContinue, challenge).(*pgproto3.SASLResponse); ok {
			proofs.Add(1)
			say(pgproto3.AuthTypeSASLFinal, &pgproto3.AuthenticationSASLFinal{Data: []byte("e=invalid-proof")})
		}
	})
	db := on(t, "postgres://app:wrong@"+address+"/app?sslmode=disable", nil)
	for i := range 5 {
		err := db.Run(t.Context(), nopool.TxOptions{}, selectOne)
		if !errors.Is(err, nopool.ErrConfiguration) || i == 0 && !IsAuthentication(err) {
			t.Errorf("%v, want ErrConfiguration that says it is about authentication", err)
		}
	}
	if n := proofs.Load(); n != 3 {
		t.Errorf("%d passwords were given, want 3", n)
	}
}

// TestPoolersOwnPassword lets a pooler accept our password, and be refused itself by
// the server behind it: that is not held against ours, however often.
func TestPoolersOwnPassword(t *testing.T) {
	t.Parallel()
	var proofs atomic.Int32
	address := answering(t, func(conn net.Conn) {
		server := pgproto3.NewBackend(conn, conn)
		_, _ = server.ReceiveStartupMessage()
		server.Send(&pgproto3.AuthenticationCleartextPassword{})
		_, _ = server.SetAuthType(pgproto3.AuthTypeCleartextPassword), server.Flush()
		if _, err := server.Receive(); err != nil {
			return
		}
		proofs.Add(1)
		server.Send(&pgproto3.AuthenticationOk{})
		server.Send(standin.Fatal("08P01", "password authentication failed"))
		_ = server.Flush()
	})
	db := on(t, "postgres://app:right@"+address+"/app?sslmode=disable", nil)
	for range 5 {
		if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); !IsAuthentication(err) {
			t.Errorf("%v, want what the pooler says", err)
		}
	}
	if n := proofs.Load(); n != 5 {
		t.Errorf("the password was given %d times, want 5", n)
	}
}

// TestPoolersOwnLogin has a real PgBouncer accept our password and then be refused by Postgres, more often than ours may be:
// when that is mended, ours is given again.
func TestPoolersOwnLogin(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	if os.Getenv("TEST_DATABASE_URL") != "" {
		t.Skip("the server of TEST_DATABASE_URL may ask for no password")
	}
	admin := pgtest.Admin(t, database)
	execute := func(sql string) {
		t.Helper()
		_, err := admin.Exec(t.Context(), sql)
		must(t, err)
	}
	execute("drop role if exists poolers_own; create role poolers_own login password 'right'")
	var secret string
	must(t, admin.QueryRow(t.Context(), "select rolpassword from pg_authid where rolname = 'poolers_own'").Scan(&secret))
	address := regexp.MustCompile("//[^@]*@").ReplaceAllString(database, "//poolers_own:right@")
	db := on(t, pgtest.PgBouncer(t, address, pgtest.PgBouncerOptions{Secret: secret}), nil)
	execute("alter role poolers_own password 'right'") // with another salt, of which PgBouncer knows nothing
	for range 2 * maxRefused {
		err := db.Run(t.Context(), nopool.TxOptions{}, selectOne)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || !strings.Contains(pgErr.Message, "authentication failed") {
			t.Errorf("%v, want what Postgres said to PgBouncer", err)
		}
	}
	execute("alter role poolers_own password '" + secret + "'")
	if !pgtest.Within(20*time.Second, func() bool { return db.Run(t.Context(), nopool.TxOptions{}, selectOne) == nil }) {
		t.Error("still refused after it was mended")
	}
}

// TestHangingLogins has a pooler that does not answer some logins, at a step of them, and wants
// another to succeed meanwhile, or afterwards where nine hang.
func TestHangingLogins(t *testing.T) {
	t.Parallel()
	const most = maxPlaces
	for step, messages := range map[standin.Step]int{standin.Challenged: 1, standin.Proving: 2} {
		for _, hanging := range []int{3, 6, 12} {
			t.Run(fmt.Sprint(step, hanging), func(t *testing.T) {
				t.Parallel()
				hung := make(chan struct{})
				giveUp := sync.OnceFunc(func() { close(hung) })
				defer giveUp()
				pooler := standin.Start(t, standin.Options{Auth: standin.SCRAM, OnStep: func(n int, now standin.Step) standin.Fault {
					if now == step && n > 1 && n <= 1+hanging {
						<-hung
						return standin.Drop
					}
					return nil
				}})
				db := on(t, pooler.URL(), func(c *config) { c.MaxSessions, c.ConnectTimeout = 20, time.Minute })
				must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne))
				for range hanging {
					go func() { _ = db.Run(t.Context(), nopool.TxOptions{}, selectOne) }()
				}
				sent := 2 + messages*min(hanging, most) // two of the first
				for pooler.Stats().Passwords < sent {
					time.Sleep(time.Millisecond)
				}
				if hanging > most {
					time.AfterFunc(2*answerTime, func() {
						if n := pooler.Stats().Passwords; n > sent {
							t.Errorf("%d messages with a password, want none after the ninth login", n)
						}
						giveUp()
					})
				}
				must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne))
			})
		}
	}
}

// TestHangingFirst has the login hang that goes first, and wants another to be let ahead.
func TestHangingFirst(t *testing.T) {
	t.Parallel()
	hangs := make(chan struct{})
	pooler := standin.Start(t, standin.Options{Auth: standin.SCRAM, OnStep: func(n int, step standin.Step) standin.Fault {
		if n == 1 && step == standin.Challenged {
			close(hangs)
			return standin.Hang
		}
		return nil
	}})
	db := on(t, pooler.URL(), func(c *config) { c.ConnectTimeout = 10 * time.Second })
	ctx, giveUp := context.WithTimeout(t.Context(), 8*time.Second)
	defer giveUp()
	go func() { _ = db.Run(ctx, nopool.TxOptions{}, selectOne) }()
	<-hangs
	must(t, db.Run(ctx, nopool.TxOptions{}, selectOne))
}

// TestBrokenSCRAM wants a login that ends on what the server says to give its place to the next.
func TestBrokenSCRAM(t *testing.T) {
	t.Parallel()
	var hellos atomic.Int32
	address := answering(t, func(conn net.Conn) {
		server := pgproto3.NewBackend(conn, conn)
		_, _ = server.ReceiveStartupMessage()
		server.Send(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}})
		_, _ = server.SetAuthType(pgproto3.AuthTypeSASL), server.Flush()
		_, _ = server.Receive()
		hellos.Add(1)
		server.Send(&pgproto3.AuthenticationSASLContinue{Data: []byte("r=another,s=c2FsdA==,i=4096")})
		_ = server.Flush()
		_, _ = io.Copy(io.Discard, conn)
	})
	db := on(t, "postgres://app:secret@"+address+"/app?sslmode=disable", func(c *config) { c.ConnectTimeout = 2 * time.Second })
	for range 4 {
		if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); err == nil {
			t.Error("it was believed")
		}
	}
	if n := hellos.Load(); n < 4 {
		t.Errorf("%d logins began, want one of each session", n)
	}
}

// TestRefusedHandshake wants a server that cannot speak TLS with us told from one
// that is out of reach.
func TestRefusedHandshake(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM})
	pooler.OnTLS(only(0x7777))
	if err := on(t, pooler.URL(), nil).Run(t.Context(), nopool.TxOptions{}, selectOne); !errors.Is(err, nopool.ErrConfiguration) {
		t.Errorf("%v, want ErrConfiguration", err)
	}
}

// TestNoCertificate wants the same of one that asks for a certificate which we do not
// have, of the first connection: tried again, it would hide an alert that is lost.
func TestNoCertificate(t *testing.T) {
	t.Parallel()
	config := &tls.Config{Certificates: []tls.Certificate{certificate(t)}, ClientAuth: tls.RequireAnyClientCert}
	var dials atomic.Int32
	address := answering(t, func(client net.Conn) {
		dials.Add(1)
		acceptTLS(client)
		_ = tls.Server(client, config).Handshake()
		_, _ = io.Copy(io.Discard, client) // a reset could overtake the alert
	})
	err := on(t, "postgres://app:secret@"+address+"/app?sslmode=require", nil).Run(t.Context(), nopool.TxOptions{}, selectOne)
	if !errors.Is(err, nopool.ErrConfiguration) || dials.Load() != 1 {
		t.Errorf("%v after %d dials, want ErrConfiguration after one", err, dials.Load())
	}
}

// TestAlertIsSent wants a server to learn that its certificate is not accepted.
func TestAlertIsSent(t *testing.T) {
	t.Parallel()
	config, told := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}, make(chan error, 3)
	address := answering(t, func(client net.Conn) {
		acceptTLS(client)
		told <- tls.Server(client, config).Handshake()
	})
	_ = on(t, "postgres://app:secret@"+address+"/app?sslmode=verify-full", nil).Run(t.Context(), nopool.TxOptions{}, selectOne)
	if err := <-told; err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("the server learns: %v, want that its certificate is bad", err)
	}
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	cert, key, err := localpg.NewCertificate()
	must(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	must(t, err)
	return pair
}

// acceptTLS reads an SSLRequest and says yes.
func acceptTLS(client net.Conn) {
	_, _ = io.ReadFull(client, make([]byte, 8))
	_, _ = client.Write([]byte("S"))
}

// TestDirectTLS has a server that speaks TLS at once, before a stand-in that does not.
func TestDirectTLS(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{Auth: standin.SCRAM})
	config := &tls.Config{Certificates: []tls.Certificate{certificate(t)}, NextProtos: []string{"postgresql"}}
	address := answering(t, func(client net.Conn) {
		server, err := net.Dial("tcp", addressOf(t, pooler.URL()))
		if err != nil {
			return
		}
		defer server.Close()
		inner := tls.Server(client, config)
		go func() { _, _ = io.Copy(server, inner); server.Close() }()
		_, _ = io.Copy(inner, server)
	})
	db := on(t, "postgres://app:"+standin.Password+"@"+address+"/app?sslmode=require&sslnegotiation=direct", nil)
	must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne))
}

// only lets a server know one group for the key exchange.
func only(group tls.CurveID) func(*tls.Config) {
	return func(config *tls.Config) { config.CurvePreferences = []tls.CurveID{group} }
}

// TestManInTheMiddle puts a server with another certificate before a real one.
// Without a verified certificate, SCRAM's channel binding alone can notice it.
func TestManInTheMiddle(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	if strings.Contains(url, "sslmode=disable") {
		t.Skip("TEST_DATABASE_URL is plaintext: nothing to bind to")
	}
	upstream := addressOf(t, url)
	unverified := strings.Split(url, "?")[0] + "?sslmode=require"
	must(t, on(t, unverified, nil).Run(t.Context(), nopool.TxOptions{}, selectOne)) // it is the man's fault below

	between := strings.Replace(unverified, upstream, manInTheMiddle(t, upstream), 1)
	err := on(t, between, nil).Run(t.Context(), nopool.TxOptions{}, selectOne)
	if err == nil || !strings.Contains(err.Error(), "channel binding") {
		t.Errorf("%v, want a complaint about channel binding", err)
	}
}

func addressOf(t *testing.T, url string) string {
	t.Helper()
	connect, err := pgconn.ParseConfig(url)
	must(t, err)
	return net.JoinHostPort(connect.Host, strconv.Itoa(int(connect.Port)))
}

// manInTheMiddle ends TLS with a certificate of its own and passes on what it reads.
func manInTheMiddle(t *testing.T, upstream string) (address string) {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
	return answering(t, func(client net.Conn) {
		server, err := net.Dial("tcp", upstream)
		if err != nil {
			return
		}
		defer server.Close()
		_, _ = server.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}) // SSLRequest
		_, _ = io.ReadFull(server, make([]byte, 1))
		acceptTLS(client)
		inner, outer := tls.Server(client, config), tls.Client(server, &tls.Config{InsecureSkipVerify: true})
		go func() { _, _ = io.Copy(outer, inner); server.Close() }()
		_, _ = io.Copy(inner, outer)
	})
}

// TestRequiredBinding keeps the password from a server that asks for it in the clear
// where channel_binding=require says that nothing but SCRAM will do.
func TestRequiredBinding(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{TLS: true, Auth: standin.Cleartext})
	err := on(t, pooler.URL()+"&channel_binding=require", nil).Run(t.Context(), nopool.TxOptions{}, selectOne)
	if !errors.Is(err, nopool.ErrConfiguration) || pooler.Stats().Passwords != 0 {
		t.Errorf("%v after %d passwords, want ErrConfiguration and none", err, pooler.Stats().Passwords)
	}
}

// TestNothingButSCRAM wants the password kept from a server that asks for it in
// any other way, or for none, where its certificate is not verified.
func TestNothingButSCRAM(t *testing.T) {
	t.Parallel()
	for _, auth := range []standin.Auth{standin.Trust, standin.Cleartext} {
		pooler := standin.Start(t, standin.Options{TLS: true, Auth: auth})
		unverified := strings.Split(pooler.URL(), "?")[0] + "?sslmode=require"
		err := on(t, unverified, func(c *config) { c.AllowPlainAuth = false }).Run(t.Context(), nopool.TxOptions{}, selectOne)
		if !errors.Is(err, nopool.ErrConfiguration) || pooler.Stats().Passwords != 0 {
			t.Errorf("%v after %d passwords, want ErrConfiguration and none", err, pooler.Stats().Passwords)
		}
		must(t, on(t, unverified, nil).Run(t.Context(), nopool.TxOptions{}, selectOne))
	}
}
