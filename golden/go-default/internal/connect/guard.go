package connect

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// guard stands between pgx and its connection. It asks the breaker before a proof of
// the password leaves, and tells it the answer.
//
// It wraps reader and writer, never the connection: pgx binds SCRAM to the server's
// certificate only if its connection is a *tls.Conn. With another type in its place,
// as AfterNetConnect could put there, binding is off without a word, and who sits in
// between with a certificate of his own is let in.
type guard struct {
	*breaker
	ctx    context.Context // of the login
	reads  io.Reader
	writes io.Writer
	proof  *proof // nil unless one is unanswered
	scram  bool   // the server has asked for SCRAM
}

// stand returns a pgconn.BuildFrontendFunc that has g between.
func (g *guard) stand(build pgconn.BuildFrontendFunc) pgconn.BuildFrontendFunc {
	return func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		g.reads, g.writes = r, w
		return build(g, g)
	}
}

func (g *guard) Write(b []byte) (_ int, err error) {
	if b[0] == 'p' && g.proof == nil { // PasswordMessage, SASLInitialResponse or SASLResponse
		if bytes.HasPrefix(b[min(5, len(b)):], []byte("SCRAM-SHA-256")) {
			g.scram = true // the second, which proves nothing yet
		} else if g.proof, err = g.prove(g.ctx); err != nil {
			return 0, err
		}
	}
	return g.writes.Write(b)
}

// Read notices an answer that accepts the proof: what a pooler says after that, such
// as a refusal of its own login to the server, is not about our password. Of a
// refusal pgx tells: see Config.
func (g *guard) Read(b []byte) (int, error) {
	n, err := g.reads.Read(b)
	switch {
	case g.proof == nil:
	case n > 0 && b[0] == 'R':
		if refusal := scramRefusal(b[:n]); refusal != nil {
			return copy(b, refusal), err
		}
		g.answered(false)
	case err != nil:
		g.ended(&g.lost)
	}
	return n, err
}

// answered tells the breaker what the server said to the proof, if there was one.
func (g *guard) answered(no bool) {
	if no {
		g.ended(&g.refused)
	} else {
		g.ended(&g.accepted)
	}
}

func (g *guard) ended(as *int) {
	if g.proof != nil {
		g.proof.move(nil, as)
		g.proof = nil
	}
}

// scramRefusal returns the error that stands for a password refused as RFC 5802 says,
// by an AuthenticationSASLFinal, which some poolers do; nil for anything else.
func scramRefusal(said []byte) []byte {
	if len(said) < 11 || binary.BigEndian.Uint32(said[5:]) != pgproto3.AuthTypeSASLFinal || !bytes.HasPrefix(said[9:], []byte("e=")) {
		return nil
	}
	text, _, _ := bytes.Cut(said[9:min(len(said), 1+int(binary.BigEndian.Uint32(said[1:])))], []byte{0})
	message, _ := (&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28P01",
		Message: "password authentication failed: " + string(text)}).Encode(nil)
	return message
}
