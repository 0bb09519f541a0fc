package nopool_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"example.com/demo/internal/localpg"
	"example.com/demo/internal/localpg/pgtest"
	"example.com/demo/internal/localpg/standin"
	"example.com/demo/internal/nopool"
)

func selectOne(ctx context.Context, s *nopool.Session) error {
	_, err := s.Exec(ctx, "select 1")
	return err
}

// on returns a DB on a stand-in pooler, or on whatever else answers at url.
func on(t testing.TB, url string, change func(*nopool.Config)) *nopool.DB {
	t.Helper()
	config := nopool.Config{
		URL: url, AppName: "test", MaxSessions: 4, MaxWaiting: 1000, AllowPlaintext: true, AllowPlainAuth: true,
		SessionWait: 30 * time.Second, ConnectTimeout: 5 * time.Second, StatementTimeout: 5 * time.Second,
	}
	if change != nil {
		change(&config)
	}
	db, err := nopool.Open(config)
	must(t, err)
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	return db
}

// TestWrongPassword gives a refused password to many sessions at once: Supavisor
// would block this machine's address after ten.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	for _, auth := range []standin.Auth{standin.SCRAM, standin.Cleartext} {
		pooler := standin.Start(t, standin.Options{TLS: true, Auth: auth})
		db := on(t, strings.Replace(pooler.URL(), standin.Password, "wrong", 1), func(c *nopool.Config) { c.MaxSessions = 10 })
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if err := db.Run(t.Context(), nopool.TxOptions{}, selectOne); !errors.Is(err, nopool.ErrConfiguration) {
					t.Errorf("%v, want ErrConfiguration", err)
				}
			})
		}
		all.Wait()
		if n := pooler.Stats().Failed; n != 3 {
			t.Errorf("%d passwords were given, want 3", n)
		}
	}
}

// TestGroupIsLearnt wants no second round trip for the key exchange once it is
// known what the server can do.
func TestGroupIsLearnt(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM, Curves: []tls.CurveID{tls.CurveP256}})
	db := on(t, pooler.URL(), nil)
	for range 3 {
		must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne))
	}
	for i, conn := range pooler.Conns() {
		if conn.Retried != (i == 0) {
			t.Errorf("connection %d: HelloRetryRequest %t", i+1, conn.Retried)
		}
	}
}

// TestGroupIsForgotten lets a server choose a group and then take another alone,
// as when its settings change: no session may fail.
func TestGroupIsForgotten(t *testing.T) {
	t.Parallel()
	before := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM, Curves: []tls.CurveID{tls.CurveP384}})
	after := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM, Curves: []tls.CurveID{tls.CurveP256}})
	var changed atomic.Bool
	unverified := strings.Split(before.URL(), "?")[0] + "?sslmode=require" // the two have a certificate each
	db := on(t, unverified, func(c *nopool.Config) {
		c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			if changed.Load() {
				address = addressOf(t, after.URL())
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	})
	must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne))
	changed.Store(true)
	must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne))
	if n := db.Snapshot().OpenRetries; n != 1 {
		t.Errorf("%d retries, want 1", n)
	}
}

// TestRefusedHandshake wants a server that cannot speak TLS with us told from one
// that is out of reach.
func TestRefusedHandshake(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM, Curves: []tls.CurveID{0x7777}})
	if err := on(t, pooler.URL(), nil).Run(t.Context(), nopool.TxOptions{}, selectOne); !errors.Is(err, nopool.ErrConfiguration) {
		t.Errorf("%v, want ErrConfiguration", err)
	}
}

func TestDirectTLS(t *testing.T) {
	t.Parallel()
	pooler := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM})
	db := on(t, pooler.URL()+"&sslnegotiation=direct", nil)
	must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne))
	if n := pooler.Stats().SSLRequests; n != 0 {
		t.Errorf("%d requests for TLS, want none", n)
	}
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
	cert, key, err := localpg.NewCertificate()
	must(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				server, err := net.Dial("tcp", upstream)
				if err != nil {
					return
				}
				defer server.Close()
				request := make([]byte, 8) // SSLRequest, and the answer "S", on both sides
				_, _ = io.ReadFull(client, request)
				_, _ = server.Write(request)
				_, _ = io.ReadFull(server, request[:1])
				_, _ = client.Write(request[:1])
				inner := tls.Server(client, &tls.Config{Certificates: []tls.Certificate{pair}})
				outer := tls.Client(server, &tls.Config{InsecureSkipVerify: true})
				go func() { _, _ = io.Copy(outer, inner); server.Close() }()
				_, _ = io.Copy(inner, outer)
			}()
		}
	}()
	return listener.Addr().String()
}

// TestNothingButSCRAM wants the password kept from a server that asks for it in
// any other way, or for none, where its certificate is not verified.
func TestNothingButSCRAM(t *testing.T) {
	t.Parallel()
	for _, auth := range []standin.Auth{standin.Trust, standin.Cleartext} {
		pooler := standin.Start(t, standin.Options{TLS: true, Auth: auth})
		unverified := strings.Split(pooler.URL(), "?")[0] + "?sslmode=require"
		err := on(t, unverified, func(c *nopool.Config) { c.AllowPlainAuth = false }).Run(t.Context(), nopool.TxOptions{}, selectOne)
		if !errors.Is(err, nopool.ErrConfiguration) || pooler.Stats().Passwords != 0 {
			t.Errorf("%v after %d passwords, want ErrConfiguration and none", err, pooler.Stats().Passwords)
		}
		must(t, on(t, unverified, nil).Run(t.Context(), nopool.TxOptions{}, selectOne))
	}
}
