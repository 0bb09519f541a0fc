package nopool

import (
	"context"
	"crypto/md5"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"
)

const (
	scramPlain, scramBound = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"

	mostStartupBytes = 1 << 16 // from the server, before it is ready
	usesOfKeys       = 1000    // before they are derived anew: some servers make a new salt each time

	maxFailures = 3
	window      = 150 * time.Second
)

// tooManyRounds matches a server-first-message (RFC 5802, section 7) with a number
// of rounds that is longer than six digits: its sender wants to keep us busy.
var tooManyRounds = regexp.MustCompile(`,i=[^,]{7}`)

var (
	// errAuthentication: what was asked of us, or shown to us, cannot be accepted.
	errAuthentication = errors.New("authentication")
	// errBlocked: the password was refused too often of late to give it again.
	errBlocked  = fmt.Errorf("authentication failed %d times within %v", maxFailures, window)
	errNotSCRAM = fmt.Errorf("%w: the server does not ask for SCRAM, and its certificate is not verified", errAuthentication)
)

// login is what we prove to the server who we are with, and how often it may say
// no: at most maxFailures times in a window. Supavisor blocks an address for two
// minutes after ten failures in 150 s. Since a password can change while many
// connections log in, no more of them may prove it at once than may fail.
type login struct {
	password string
	strict   bool   // nothing but SCRAM
	binding  string // to the server's certificate, as libpq's channel_binding: prefer, require or disable

	keys atomic.Pointer[scram.Client] // derived so far, by salt and rounds
	uses atomic.Uint32                // of keys

	mu                sync.Mutex
	proving, failures int
	changed           sync.Cond
}

func newLogin(config *pgx.ConnConfig) *login {
	l := &login{password: config.Password, strict: config.RequireAuth != "", binding: config.ChannelBinding}
	l.changed.L = &l.mu
	return l
}

// authenticate starts the connection as section 55.2.1 of the Postgres manual
// says, in the place of pgx, which derives SCRAM's keys anew each time: 4,096
// rounds of HMAC, most of a client's work for a session. RFC 5802 (section 3) lets
// a client keep them. It is for pgconn.Config.AfterNetConnect.
func (d *dialer) authenticate(ctx context.Context, config *pgconn.Config, conn net.Conn) (net.Conn, error) {
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if encrypted, ok := conn.(*tls.Conn); ok {
		if err := encrypted.HandshakeContext(ctx); err != nil {
			if isAlert(err) && d.group.Swap(0) != 0 { // transient: the next connection offers all groups again
				err = errors.New("the server refuses the group that it chose before: " + err.Error())
			}
			return conn, err
		}
		d.group.Store(uint32(encrypted.ConnectionState().CurveID))
	}
	server := pgproto3.NewFrontend(conn, conn)
	server.SetMaxBodyLen(mostStartupBytes)
	startup := pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: maps.Clone(config.RuntimeParams)}
	startup.Parameters["user"] = config.User
	if config.Database != "" {
		startup.Parameters["database"] = config.Database
	}
	server.Send(&startup)

	p := &proof{login: d.login, ctx: ctx, conn: conn, user: config.User}
	defer p.leave(false)
	started := &startedConn{Conn: conn}
	for {
		if err := server.Flush(); err != nil {
			return conn, err
		}
		message, err := server.Receive()
		if err != nil {
			return conn, err
		}
		reply, forPgx, err := p.answer(message)
		if err != nil {
			return conn, err
		}
		if reply != nil {
			server.Send(reply)
		}
		if forPgx {
			started.unread, err = message.Encode(started.unread)
		}
		switch message.(type) {
		case *pgproto3.ErrorResponse, *pgproto3.ReadyForQuery:
			return started, err
		}
		if err == nil && len(started.unread) > mostStartupBytes {
			err = errors.New("the server says too much before it is ready")
		}
		if err != nil {
			return conn, err
		}
	}
}

// proof is the login of one connection.
type proof struct {
	*login
	ctx          context.Context
	conn         net.Conn
	user         string
	conversation *scram.ClientConversation // nil before the server asks for SCRAM
	proven       bool                      // the server knows the password, too
	entered      bool
}

// answer returns what to reply to the server's message, if anything, and whether
// the message is for pgx.
func (p *proof) answer(message pgproto3.BackendMessage) (reply pgproto3.FrontendMessage, forPgx bool, err error) {
	switch m := message.(type) {
	case *pgproto3.AuthenticationSASL:
		mechanism, err := p.choose(m.AuthMechanisms)
		if err != nil {
			return nil, false, err
		}
		hello, err := p.conversation.Step("")
		return &pgproto3.SASLInitialResponse{AuthMechanism: mechanism, Data: []byte(hello)}, false, err
	case *pgproto3.AuthenticationSASLContinue:
		text, err := p.step(m.Data)
		return &pgproto3.SASLResponse{Data: []byte(text)}, false, err
	case *pgproto3.AuthenticationSASLFinal:
		_, err := p.step(m.Data)
		p.proven = err == nil && p.conversation.Valid()
		return nil, false, err
	case *pgproto3.AuthenticationCleartextPassword:
		err := p.enterPlain()
		return &pgproto3.PasswordMessage{Password: p.password}, false, err
	case *pgproto3.AuthenticationMD5Password:
		hash := fmt.Sprintf("%x", md5.Sum([]byte(p.password+p.user)))
		hash = fmt.Sprintf("md5%x", md5.Sum(append([]byte(hash), m.Salt[:]...)))
		err := p.enterPlain()
		return &pgproto3.PasswordMessage{Password: hash}, false, err
	case *pgproto3.AuthenticationGSS, *pgproto3.AuthenticationGSSContinue:
		return nil, false, errNotSCRAM
	case *pgproto3.AuthenticationOk:
		p.leave(false)
		if p.strict && !p.proven {
			return nil, false, errNotSCRAM
		}
	case *pgproto3.ErrorResponse:
		p.leave(IsAuthentication(pgconn.ErrorResponseToPgError(m)))
	}
	return nil, true, nil
}

// choose begins a conversation, bound to the server's certificate where both
// sides can. Saying that we could have lets the server find out that somebody in
// between has struck it from the list.
func (p *proof) choose(offered []string) (mechanism string, err error) {
	keys := p.derived()
	p.conversation = keys.NewConversation()
	if encrypted, ok := p.conn.(*tls.Conn); ok && p.binding != "disable" {
		state := encrypted.ConnectionState()
		certificate, err := scram.NewTLSServerEndpointBinding(&state)
		switch bound := slices.Contains(offered, scramBound); {
		case bound && err == nil:
			p.conversation = keys.NewConversationWithChannelBinding(certificate)
			return scramBound, nil
		case !bound:
			p.conversation = keys.NewConversationAdvertisingChannelBinding()
		}
	}
	if p.binding == "require" {
		return "", fmt.Errorf("%w: channel binding is required, and the server cannot", errAuthentication)
	}
	if !slices.Contains(offered, scramPlain) {
		return "", fmt.Errorf("%w: the server offers %q, none of which is known", errAuthentication, offered)
	}
	return scramPlain, nil
}

// step answers the server's side of the conversation, in our turn.
func (p *proof) step(data []byte) (string, error) {
	if p.conversation == nil {
		return "", fmt.Errorf("%w: SCRAM begins in its middle", errAuthentication)
	}
	if tooManyRounds.Match(data) {
		return "", fmt.Errorf("%w: SCRAM with a million rounds or more", errAuthentication)
	}
	if err := p.enter(); err != nil {
		return "", err
	}
	text, err := p.conversation.Step(string(data))
	if err != nil {
		err = fmt.Errorf("%w: SCRAM: %w", errAuthentication, err)
	}
	return text, err
}

// enterPlain is enter for a password that is shown to the server.
func (p *proof) enterPlain() error {
	if p.strict {
		return errNotSCRAM
	}
	return p.enter()
}

// enter waits for a turn, once.
func (p *proof) enter() error {
	if p.entered {
		return nil
	}
	defer context.AfterFunc(p.ctx, p.wake)()
	p.mu.Lock()
	defer p.mu.Unlock()
	for ; p.proving+p.failures >= maxFailures; p.changed.Wait() {
		if p.failures >= maxFailures {
			return errBlocked
		}
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
	}
	p.proving++
	p.entered = true
	return nil
}

// leave ends the turn, if there was one. refused says that the server did not
// accept us, which some find out without a turn.
func (p *proof) leave(refused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entered {
		p.proving--
		p.entered = false
	}
	if refused {
		p.failures++
		time.AfterFunc(window, func() { p.mu.Lock(); p.failures--; p.mu.Unlock() })
	}
	p.changed.Broadcast()
}

func (l *login) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed.Broadcast()
}

// check returns errBlocked while the limit of failures is reached.
func (l *login) check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failures >= maxFailures {
		return errBlocked
	}
	return nil
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
