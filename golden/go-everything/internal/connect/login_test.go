package connect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"hash"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// speaksOnlySCRAM is how this login knows.
func speaksOnlySCRAM(c *Connector) bool { return c.login.strict && c.config.Password == "" }

// strict returns a login that accepts nothing but SCRAM.
func strict() *login {
	return newLogin(&pgx.ConnConfig{Config: pgconn.Config{Password: "secret", RequireAuth: onlySCRAM}})
}

// TestKeysAreDerivedOnce counts the hashes that a second connection makes.
func TestKeysAreDerivedOnce(t *testing.T) {
	t.Parallel()
	l := strict()
	made := 0
	counting := scram.HashGeneratorFcn(func() hash.Hash { made++; return sha256.New() })
	client, err := counting.NewClient("", "secret", "")
	if err != nil {
		t.Fatal(err)
	}
	l.keys.Store(client)
	var costs []int
	for range 3 {
		before := made
		conversation := l.derived().NewConversation()
		hello, _ := conversation.Step("")
		if _, err := conversation.Step("r=" + hello[len("n,,n=,r="):] + "x,s=c2FsdA==,i=4096"); err != nil {
			t.Fatal(err)
		}
		costs = append(costs, made-before)
	}
	if costs[1] >= costs[0] || costs[2] != costs[1] {
		t.Errorf("hashes made by one connection after the other: %v", costs)
	}
}

// TestKeysAreForgotten wants a bound on what a server that changes its salt all
// the time can make us keep.
func TestKeysAreForgotten(t *testing.T) {
	t.Parallel()
	l := strict()
	first := l.derived()
	for range usesOfKeys {
		l.derived()
	}
	if l.derived() == first {
		t.Errorf("the keys outlived %d uses", usesOfKeys)
	}
}

// scripted is a server that says what it was told to say.
type scripted struct {
	net.Conn
	io.Reader
}

func (s scripted) Read(p []byte) (int, error)       { return s.Reader.Read(p) }
func (s scripted) Write(p []byte) (int, error)      { return len(p), nil }
func (s scripted) Close() error                     { return nil }
func (s scripted) SetDeadline(time.Time) error      { return nil }
func encode(m pgproto3.BackendMessage) (out []byte) { out, _ = m.Encode(nil); return out }

// FuzzAuthentication lets a server say anything. Where nothing but SCRAM is accepted,
// pgx must never read that authentication is over: the server cannot know the
// password.
func FuzzAuthentication(f *testing.F) {
	ok := encode(&pgproto3.AuthenticationOk{})
	ready := encode(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	sasl := encode(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{scramPlain}})
	challenge := encode(&pgproto3.AuthenticationSASLContinue{Data: []byte("r=x,s=c2FsdA==,i=4096")})
	final := encode(&pgproto3.AuthenticationSASLFinal{Data: []byte("v=c2FsdA==")})
	f.Add(bytes.Join([][]byte{ok, ready}, nil))
	f.Add(bytes.Join([][]byte{sasl, challenge, final, ok, ready}, nil))
	f.Add(bytes.Join([][]byte{sasl, final, ok, ready}, nil))
	f.Add(bytes.Join([][]byte{encode(&pgproto3.AuthenticationCleartextPassword{}), ok, ready}, nil))
	f.Add(bytes.Join([][]byte{encode(&pgproto3.AuthenticationMD5Password{}), ok, ready}, nil))
	f.Add(bytes.Join([][]byte{encode(&pgproto3.AuthenticationGSS{}), ok, ready}, nil))
	f.Add(append(encode(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01"}), ok...))
	f.Add(ready)
	f.Add(bytes.Repeat(encode(&pgproto3.ParameterStatus{Name: "a", Value: "b"}), maxMessage/8))
	f.Add(append(sasl, encode(&pgproto3.AuthenticationSASLContinue{Data: []byte("r=x,s=c2FsdA==,i=+999999999")})...))
	f.Add([]byte("R\xff\xff\xff\xff"))
	f.Add([]byte("S\x00\x00\x00\x04R"))
	f.Fuzz(func(t *testing.T, says []byte) {
		g := newBreaker(1).newGuard(t.Context(), time.Now())
		conn, err := strict().start(&pgconn.Config{RuntimeParams: map[string]string{}}, scripted{Reader: bytes.NewReader(says)}, g)
		if _, ok := conn.(*startedConn); ok && err == nil {
			if told, _ := io.ReadAll(conn); !bytes.HasPrefix(told, []byte("E")) {
				t.Errorf("%q was believed", says)
			}
		}
		if g.refused > 0 {
			t.Errorf("an answer was counted of %q", says)
		}
	})
}

// TestGroupIsLearnt wants no second round trip for the key exchange once it is
// known what the server can do.
func TestGroupIsLearnt(t *testing.T) {
	t.Parallel()
	retried := make(chan bool, 3)
	pooler := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM})
	pooler.OnTLS(func(config *tls.Config) {
		only(tls.CurveP256)(config)
		config.VerifyConnection = func(state tls.ConnectionState) error {
			retried <- state.HelloRetryRequest
			return nil
		}
	})
	db := on(t, pooler.URL(), nil)
	for range 3 {
		must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne))
	}
	for i := range cap(retried) {
		if again := <-retried; again != (i == 0) {
			t.Errorf("connection %d: HelloRetryRequest %t", i+1, again)
		}
	}
}

// TestGroupIsForgotten lets a server choose a group and then take another alone,
// as when its settings change: no session may fail, those that come at once included.
func TestGroupIsForgotten(t *testing.T) {
	t.Parallel()
	before := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM})
	before.OnTLS(only(tls.CurveP384))
	after := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM})
	after.OnTLS(only(tls.CurveP256))
	var changed atomic.Bool
	unverified := strings.Split(before.URL(), "?")[0] + "?sslmode=require" // the two have a certificate each
	db := on(t, unverified, func(c *config) {
		c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			if changed.Load() {
				address = addressOf(t, after.URL())
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	})
	must(t, db.Run(t.Context(), nopool.TxOptions{}, selectOne))
	changed.Store(true)
	manySessions(t, db, 4)
	if n := db.Snapshot().OpenRetries; n < 1 || n > 4 {
		t.Errorf("%d retries, want one for each session at most", n)
	}
}
