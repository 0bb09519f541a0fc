package dialer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"
)

// TestKeysAreDerivedOnce counts the hashes that a second connection makes.
func TestKeysAreDerivedOnce(t *testing.T) {
	t.Parallel()
	h := New(&pgx.ConnConfig{Config: pgconn.Config{Password: "secret"}})
	made := 0
	counting := scram.HashGeneratorFcn(func() hash.Hash { made++; return sha256.New() })
	client, err := counting.NewClient("", "secret", "")
	if err != nil {
		t.Fatal(err)
	}
	h.keys.Store(client)
	var costs []int
	for range 3 {
		before := made
		conversation := h.conversations().NewConversation()
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
	h := New(&pgx.ConnConfig{Config: pgconn.Config{Password: "secret"}})
	first := h.conversations()
	for range usesOfKeys {
		h.conversations()
	}
	if h.conversations() == first {
		t.Errorf("the keys outlived %d uses", usesOfKeys)
	}
}

// scripted is a server that says what it was told to say.
type scripted struct {
	net.Conn
	io.Reader
}

func (s scripted) Read(p []byte) (int, error)  { return s.Reader.Read(p) }
func (s scripted) Write(p []byte) (int, error) { return len(p), nil }
func (s scripted) Close() error                { return nil }

// FuzzAuthentication lets a server say anything. Where nothing but SCRAM is accepted,
// pgx must never read that authentication is over: the server cannot know the
// password.
func FuzzAuthentication(f *testing.F) {
	message := func(m pgproto3.BackendMessage) []byte {
		data, err := m.Encode(nil)
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	ok := message(&pgproto3.AuthenticationOk{})
	sasl := message(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{scramPlain}})
	challenge := message(&pgproto3.AuthenticationSASLContinue{Data: []byte("r=x,s=c2FsdA==,i=4096")})
	final := message(&pgproto3.AuthenticationSASLFinal{Data: []byte("v=c2FsdA==")})
	f.Add(ok)
	f.Add(bytes.Join([][]byte{sasl, challenge, final, ok}, nil))
	f.Add(bytes.Join([][]byte{sasl, final, ok}, nil))
	f.Add(append(message(&pgproto3.AuthenticationCleartextPassword{}), ok...))
	f.Add(append(message(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01"}), ok...))
	f.Add([]byte("R\xff\xff\xff\xff"))
	f.Add([]byte("S\x00\x00\x00\x04R"))
	f.Fuzz(func(t *testing.T, says []byte) {
		h := New(&pgx.ConnConfig{Config: pgconn.Config{Password: "secret", RequireAuth: "scram-sha-256"}})
		conn := &authConn{Conn: scripted{Reader: bytes.NewReader(says)}, Dialer: h, ctx: context.Background(), bind: true}
		var read []byte
		for buffer := make([]byte, 512); ; {
			n, err := conn.Read(buffer)
			if conn.over {
				break // all that follows an error of the server is pgx's
			}
			read = append(read, buffer[:n]...)
			if err != nil {
				break
			}
		}
		if conn.proven || bytes.Contains(read, []byte("R")) && bytes.Contains(read, ok) {
			t.Errorf("%q was believed", says)
		}
		if h.guard.proving != 0 {
			t.Errorf("a turn was kept after %q", says)
		}
	})
}
