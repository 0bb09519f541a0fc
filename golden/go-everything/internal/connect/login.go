package connect

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // what old servers ask for, where more than SCRAM is allowed
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"
)

const (
	scramPlain, scramBound = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"

	maxStartupBytes = 1 << 16 // from the server, before it is ready
	usesOfKeys      = 1000    // before they are derived anew: some servers make a new salt each time

	maxFailures   = 3
	failureWindow = 150 * time.Second
)

// tooManyRounds matches a server-first-message (RFC 5802, section 7) with a number
// of rounds that is longer than six digits: its sender wants to keep us busy.
var tooManyRounds = regexp.MustCompile(`,i=[^,]{7}`)

var (
	// errBlocked: the password was refused too often of late to give it again.
	errBlocked  = refuse("failed %d times within %v", maxFailures, failureWindow)
	errNotSCRAM = refuse("the server does not ask for SCRAM, and nothing else is allowed")
)

// refuse returns an error about what was asked of us, or shown to us.
func refuse(format string, args ...any) error {
	return lasting{fmt.Errorf("authentication: "+format, args...)}
}

// login proves to the server who we are, in the place of pgx, which derives
// SCRAM's keys anew each time: 4,096 rounds of HMAC, most of a client's work for a
// session. RFC 5802 (section 3) lets a client keep them.
type login struct {
	password string
	strict   bool   // nothing but SCRAM
	binding  string // to the server's certificate, as libpq's channel_binding: prefer, require or disable

	scrammed atomic.Bool // the last server asked for SCRAM

	keys atomic.Pointer[scram.Client] // keeps what it has derived, by salt and rounds
	uses atomic.Uint32                // of keys

	// Supavisor blocks an address for two minutes after ten failures in 150 s, and
	// a password can change while many connections log in. So each takes one of
	// maxFailures turns to prove it, which lasts a round trip, and one that was refused
	// keeps its turn until the window is over: no more than that many can ever fail
	// within it.
	turns    chan struct{}
	failures atomic.Int32
}

func (l *login) blocked() bool { return l.failures.Load() >= maxFailures }

// start is a pgconn.Config.AfterNetConnect. It has the start-up conversation
// ("Message Flow", "Start-up" in the Postgres manual) in the place of pgx, and returns a
// connection from which pgx reads the server's side of it once more.
func (c *Connector) start(ctx context.Context, config *pgconn.Config, dialled net.Conn) (net.Conn, error) {
	defer context.AfterFunc(ctx, func() { _ = dialled.SetDeadline(time.Unix(1, 0)) })()
	conn := dialled
	if prepared, ok := dialled.(*tls.Conn); ok {
		encrypted, err := c.encrypt(ctx, config.TLSConfig, prepared)
		if err != nil {
			return conn, err
		}
		conn = encrypted
		defer func() { encrypted.NetConn().(*corked).uncorked = true }()
	}
	startup := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: maps.Clone(config.RuntimeParams)}
	startup.Parameters["user"] = config.User
	if config.Database != "" {
		startup.Parameters["database"] = config.Database
	}
	p := &proof{login: &c.login, ctx: ctx, conn: conn, server: pgproto3.NewFrontend(conn, conn)}
	p.server.SetMaxBodyLen(maxStartupBytes)
	message, err := p.give(config.User, startup)
	refusal, refused := message.(*pgproto3.ErrorResponse)
	p.leave(refused && IsAuthentication(pgconn.ErrorResponseToPgError(refusal)))

	var said []byte
	for ready := false; err == nil && len(said) <= maxStartupBytes; message, err = p.server.Receive() {
		if _, refused = message.(*pgproto3.ErrorResponse); refused {
			said = nil // even where we were let in first, it is all that counts
		}
		if _, ok := message.(*pgproto3.ReadyForQuery); ok {
			c.succeeded()
			ready = true
		}
		if said, err = message.Encode(said); err != nil {
			break
		}
		if refused || ready && p.server.ReadBufferLen() == 0 { // else a refusal came with it
			return &startedConn{Conn: conn, reads: io.MultiReader(bytes.NewReader(said), conn)}, nil
		}
	}
	if err = cmp.Or(err, errors.New("the server says too much before it is ready")); isAlert(err) {
		err = lasting{err} // in TLS 1.3 the server looks at our certificate when we are done
	}
	return conn, err
}

// proof is the login of one connection.
type proof struct {
	*login
	ctx     context.Context
	conn    net.Conn
	server  *pgproto3.Frontend
	hasTurn bool
}

// ask sends a message and returns the server's answer.
func (p *proof) ask(message pgproto3.FrontendMessage) (pgproto3.BackendMessage, error) {
	p.server.Send(message)
	if err := p.server.Flush(); err != nil {
		return nil, err
	}
	return p.server.Receive()
}

// give sends startup and whatever the server then asks for, and returns the
// server's verdict: an ErrorResponse, or the message that lets us in.
func (p *proof) give(user string, startup *pgproto3.StartupMessage) (pgproto3.BackendMessage, error) {
	message, err := p.ask(startup)
	if _, refused := message.(*pgproto3.ErrorResponse); err != nil || refused {
		return message, err
	}
	asked, ok := message.(*pgproto3.AuthenticationSASL)
	p.scrammed.Store(ok)
	if ok {
		return p.scram(asked.AuthMechanisms)
	}
	if p.strict {
		return nil, errNotSCRAM
	}
	password := p.password
	switch m := message.(type) {
	case *pgproto3.AuthenticationOk:
		return m, nil
	case *pgproto3.AuthenticationCleartextPassword:
	case *pgproto3.AuthenticationMD5Password:
		password = "md5" + hexMD5(hexMD5(password+user)+string(m.Salt[:]))
	default:
		return nil, refuse("no answer is known to %T", m)
	}
	if err := p.takeTurn(); err != nil {
		return nil, err
	}
	return p.ask(&pgproto3.PasswordMessage{Password: password})
}

func hexMD5(text string) string { return fmt.Sprintf("%x", md5.Sum([]byte(text))) } //nolint:gosec // as above

// scram has the conversation of RFC 5802, in which both sides prove that they
// know the password.
func (p *proof) scram(offered []string) (pgproto3.BackendMessage, error) {
	mechanism, conversation, err := p.choose(offered)
	if err != nil {
		return nil, err
	}
	text, err := conversation.Step("")
	var reply pgproto3.FrontendMessage = &pgproto3.SASLInitialResponse{AuthMechanism: mechanism, Data: []byte(text)}
	for err == nil && !conversation.Done() {
		message, failure := p.ask(reply)
		if failure != nil {
			return nil, failure
		}
		var data []byte
		switch m := message.(type) {
		case *pgproto3.AuthenticationSASLContinue:
			data = m.Data
		case *pgproto3.AuthenticationSASLFinal:
			if data = m.Data; bytes.HasPrefix(data, []byte("e=")) { // how RFC 5802 refuses a password
				refusal := &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28P01"}
				refusal.Message = "password authentication failed: " + string(data)
				return refusal, nil
			}
		case *pgproto3.ErrorResponse:
			return m, nil
		}
		if tooManyRounds.Match(data) {
			return nil, refuse("SCRAM with a million rounds or more")
		}
		if err := p.takeTurn(); err != nil {
			return nil, err
		}
		text, err = conversation.Step(string(data))
		reply = &pgproto3.SASLResponse{Data: []byte(text)}
	}
	if err != nil || !conversation.Valid() {
		return nil, refuse("SCRAM: %w", err)
	}
	return p.server.Receive()
}

// choose begins a conversation, bound to the server's certificate where both
// sides can. Where only the server cannot, it says that we could, so that a server
// that can finds out that somebody in between took it off the list.
func (p *proof) choose(offered []string) (mechanism string, conversation *scram.ClientConversation, err error) {
	keys := p.derived()
	conversation = keys.NewConversation()
	if encrypted, ok := p.conn.(*tls.Conn); ok && p.binding != "disable" {
		state := encrypted.ConnectionState()
		certificate, err := scram.NewTLSServerEndpointBinding(&state)
		switch bound := slices.Contains(offered, scramBound); {
		case bound && err == nil:
			return scramBound, keys.NewConversationWithChannelBinding(certificate), nil
		case !bound:
			conversation = keys.NewConversationAdvertisingChannelBinding()
		}
	}
	if p.binding == "require" {
		return "", nil, refuse("channel binding is required, and the server cannot")
	}
	if !slices.Contains(offered, scramPlain) {
		return "", nil, refuse("the server offers %q, none of which is known", offered)
	}
	return scramPlain, conversation, nil
}

// takeTurn waits for a turn to prove the password, unless this login has one. It
// returns errBlocked or ctx's cause.
func (p *proof) takeTurn() error {
	for !p.hasTurn {
		if p.blocked() {
			return errBlocked
		}
		select {
		case p.turns <- struct{}{}:
			p.hasTurn = true
		case <-time.After(50 * time.Millisecond): // see whether it was refused
		case <-p.ctx.Done():
			return context.Cause(p.ctx)
		}
	}
	return nil
}

// leave ends the turn, if there was one: some are refused before they prove
// anything. The turn of one that was refused ends with the window.
func (p *proof) leave(refused bool) {
	end := func() {
		if p.hasTurn {
			<-p.turns
		}
	}
	if !refused {
		end()
		return
	}
	p.failures.Add(1)
	time.AfterFunc(failureWindow, func() { p.failures.Add(-1); end() })
}

// derived returns the keys to have a conversation with.
func (l *login) derived() *scram.Client {
	if keys := l.keys.Load(); keys != nil && l.uses.Add(1)%usesOfKeys != 0 {
		return keys
	}
	keys, err := scram.SHA256.NewClient("", l.password, "")
	if err != nil { // not a valid SASLprep string: taken as it is, as Postgres does
		keys, _ = scram.SHA256.NewClientUnprepped("", l.password, "")
	}
	if !l.strict { // else at least 4,096 rounds, as RFC 7677 wants
		keys.WithMinIterations(1)
	}
	l.keys.Store(keys)
	return keys
}

// startedConn is a connection whose start-up is over. pgx does its own all the
// same: its start-up message goes nowhere, and it reads what the server has said.
type startedConn struct {
	net.Conn
	started bool
	reads   io.Reader
}

func (c *startedConn) Read(p []byte) (int, error) { return c.reads.Read(p) }

func (c *startedConn) Write(p []byte) (int, error) {
	if !c.started { // pgx writes its start-up message at once
		c.started = true
		return len(p), nil
	}
	return c.Conn.Write(p)
}
