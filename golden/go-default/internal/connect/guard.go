package connect

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// guard stands between pgx and its connection. It asks the breaker before the login and
// before a proof of the password leaves, and tells it the answer.
//
// It wraps reader and writer, never the connection: pgx binds SCRAM to the server's
// certificate only if its connection is a *tls.Conn. With another type in its place,
// as AfterNetConnect could put there, binding is off without a word, and who sits in
// between with a certificate of his own is let in.
type guard struct {
	*breaker
	ctx     context.Context // of the login
	checked time.Time       // when the breaker let it through
	leave   func()          // gives back the place of breaker.take, nil without one
	reads   io.Reader
	writes  io.Writer
	proof   *proof // nil before it is sent
	scram   bool   // the server has asked for SCRAM
	over    bool   // the server has let us in, or not
}

// stand returns a pgconn.BuildFrontendFunc that has g between.
func (g *guard) stand(build pgconn.BuildFrontendFunc) pgconn.BuildFrontendFunc {
	return func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		g.reads, g.writes = r, w
		return build(g, g)
	}
}

// goFirst waits until the login may begin, if nobody knows whether one can succeed.
func (g *guard) goFirst() (err error) {
	if g.well() {
		return nil
	}
	if g.leave, err = g.take(g.ctx, g.first, g.checked); err != nil {
		return err
	}
	if g.well() { // by now
		g.leave()
		g.leave = nil
	} else {
		time.AfterFunc(aloneFor, g.leave)
	}
	return nil
}

func (g *guard) Write(b []byte) (n int, err error) {
	if b[0] == 'p' && g.proof == nil { // PasswordMessage, SASLInitialResponse or SASLResponse
		if !bytes.HasPrefix(b[min(5, len(b)):], []byte("SCRAM-SHA-256")) {
			g.left() // the pooler has the secret, or needs none
			g.proof, err = g.prove(g.ctx)
		} else if g.scram = true; g.leave == nil { // proves nothing yet
			g.leave, err = g.take(g.ctx, g.asking, g.checked)
		}
	}
	if err == nil {
		n, err = g.writes.Write(b)
	}
	if err != nil && !g.over {
		g.end(&g.lost)
	}
	return n, err
}

func (g *guard) left() {
	if g.leave != nil {
		g.leave()
	}
}

// Read notices that the server lets us in: what a pooler says after that, such as that
// its own login to the server was refused, is not about our password. Refusals come
// from pgx: see Config.
func (g *guard) Read(b []byte) (int, error) {
	n, err := g.reads.Read(b)
	if g.over {
		return n, err
	}
	if n > 8 && b[0] == 'R' {
		switch binary.BigEndian.Uint32(b[5:]) {
		case pgproto3.AuthTypeSASLFinal:
			if bytes.HasPrefix(b[9:n], []byte("e=")) { // how RFC 5802 refuses a password, and some poolers
				refusal, err := refusedBySCRAM.Encode(nil)
				return copy(b, refusal), err
			}
			g.end(&g.accepted)
		case pgproto3.AuthTypeOk:
			g.end(&g.accepted)
		}
	} else if err != nil {
		g.end(&g.lost)
	}
	return n, err
}

var refusedBySCRAM = pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28P01",
	Message: "password authentication failed, says SCRAM"}

// refusedBy is told of each error that the server sends. Supavisor counts those before
// it has asked for the password too. What comes after the login can be anybody's text.
func (g *guard) refusedBy(err *pgconn.PgError) {
	if g.over {
		return
	}
	as := &g.forgotten
	if IsAuthentication(err) {
		as = &g.refused
	}
	g.told(err, g.checked)
	if g.proof == nil {
		g.proof = &proof{g.breaker, &g.forgotten}
	}
	g.end(as)
}

func (g *guard) end(as *int) {
	g.left()
	if as == &g.accepted {
		g.asked(g.checked)
	}
	if g.proof != nil && !g.over {
		g.proof.move(nil, as)
	}
	g.over = true
}
