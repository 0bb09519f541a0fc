package connect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"
)

// strict returns a Connector that accepts nothing but SCRAM.
func strict() *Connector {
	return newConnector(&pgx.ConnConfig{Config: pgconn.Config{Password: "secret", RequireAuth: onlySCRAM}}, Options{})
}

// TestKeysAreDerivedOnce counts the hashes that a second connection makes.
func TestKeysAreDerivedOnce(t *testing.T) {
	t.Parallel()
	l := &strict().login
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
	l := &strict().login
	first := l.derived()
	for range usesOfKeys {
		l.derived()
	}
	if l.derived() == first {
		t.Errorf("the keys outlived %d uses", usesOfKeys)
	}
}

// TestTurns wants no more passwords under way than may be refused, and none after
// as many were, for a while.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &strict().login
		enter := func(ctx context.Context) (*proof, error) {
			p := &proof{login: l, ctx: ctx}
			return p, p.takeTurn()
		}
		var entered []*proof
		for range maxFailures {
			p, err := enter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			entered = append(entered, p)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := enter(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one more at the same time: %v, want to wait", err)
		}
		waited := make(chan error)
		go func() { _, err := enter(t.Context()); waited <- err }()
		synctest.Wait()
		for _, p := range entered {
			p.leave(true)
		}
		if err := <-waited; !errors.Is(err, errBlocked) {
			t.Errorf("one that had waited: %v, want errBlocked", err)
		}
		if !l.blocked() {
			t.Errorf("not blocked after %d failures", maxFailures)
		}
		time.Sleep(failureWindow + time.Second)
		if _, err := enter(t.Context()); err != nil {
			t.Errorf("after the window: %v", err)
		}
	})
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
	f.Add(bytes.Repeat(encode(&pgproto3.ParameterStatus{Name: "a", Value: "b"}), maxStartupBytes/8))
	f.Add(append(sasl, encode(&pgproto3.AuthenticationSASLContinue{Data: []byte("r=x,s=c2FsdA==,i=+999999999")})...))
	f.Add([]byte("R\xff\xff\xff\xff"))
	f.Add([]byte("S\x00\x00\x00\x04R"))
	f.Fuzz(func(t *testing.T, says []byte) {
		d := strict()
		conn, err := d.start(t.Context(), &pgconn.Config{RuntimeParams: map[string]string{}}, scripted{Reader: bytes.NewReader(says)})
		if _, ok := conn.(*startedConn); ok && err == nil {
			if told, _ := io.ReadAll(conn); !bytes.HasPrefix(told, []byte("E")) {
				t.Errorf("%q was believed", says)
			}
		}
		if len(d.login.turns) > int(d.login.failures.Load()) {
			t.Errorf("a turn was kept after %q", says)
		}
	})
}
