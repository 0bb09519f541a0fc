package connect

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
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

	maxMessage = 1 << 16 // from a server that has proved nothing yet
	usesOfKeys = 1000    // before they are derived anew: some servers make a new salt each time
)

// tooManyRounds matches a server-first-message (RFC 5802, section 7) with a number
// of rounds that is longer than six digits: its sender wants to keep us busy.
var tooManyRounds = regexp.MustCompile(`,i=[^,]{7}`)

var errNotSCRAM = refuse("the server does not ask for SCRAM, and nothing else is allowed")

// refuse returns an error about what was asked of us, or shown to us.
func refuse(format string, args ...any) error {
	return fmt.Errorf("authentication: "+format, args...)
}

// login is how we log in: by SCRAM ourselves, by any other method through pgx. pgx
// derives SCRAM's keys anew each time: 4,096 rounds of HMAC, most of a client's work
// for a session. RFC 5802 (section 3) lets a client keep them.
type login struct {
	password string
	strict   bool   // nothing but SCRAM
	binding  string // to the server's certificate, as libpq's channel_binding: prefer, require or disable

	group atomic.Uint32                // the tls.CurveID that the server chose last, 0 when unknown
	keys  atomic.Pointer[scram.Client] // keeps what it has derived, by salt and rounds
	uses  atomic.Uint32                // of keys
}

// newLogin takes over what pgx would else enforce. Without a password pgx cannot give
// one away after us.
func newLogin(config *pgx.ConnConfig) *login {
	l := &login{password: config.Password, binding: config.ChannelBinding,
		strict: config.RequireAuth != "" || config.ChannelBinding == "require"}
	config.RequireAuth, config.ChannelBinding, config.Password = "", "", ""
	return l
}

// start has the start-up conversation ("Message Flow", "Start-up" in the Postgres
// manual) up to where SCRAM is over, or another method is asked for. It returns a
// connection from which pgx reads on.
func (l *login) start(config *pgconn.Config, dialled net.Conn, g *guard) (net.Conn, error) {
	defer context.AfterFunc(g.ctx, func() { _ = dialled.SetDeadline(time.Unix(1, 0)) })()
	conn := dialled
	if prepared, ok := dialled.(*tls.Conn); ok {
		cork := &corked{Conn: prepared.NetConn()}
		defer func() { cork.uncorked = true }()
		encrypted, err := l.encrypt(g.ctx, cork, config.TLSConfig)
		if err != nil {
			return conn, err
		}
		conn = encrypted
	}
	startup := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: maps.Clone(config.RuntimeParams)}
	startup.Parameters["user"] = config.User
	if config.Database != "" {
		startup.Parameters["database"] = config.Database
	}
	c := &conversation{login: l, conn: conn}
	g.reads, g.writes = io.TeeReader(conn, &c.said), conn
	c.server = pgproto3.NewFrontend(g, g)
	c.server.SetMaxBodyLen(maxMessage)
	message, err := c.ask(startup)
	switch asked := message.(type) {
	case *pgproto3.AuthenticationSASL:
		err = c.scram(asked.AuthMechanisms)
	case nil, *pgproto3.ErrorResponse:
	default:
		if l.strict {
			return conn, errNotSCRAM
		}
		config.Password = l.password
	}
	return &startedConn{Conn: conn, said: c.said.Bytes()}, err
}

// conversation is the login of one connection.
type conversation struct {
	*login
	conn   net.Conn
	server *pgproto3.Frontend
	said   bytes.Buffer // by the server, from its last message on
}

// ask sends a message and returns the server's answer.
func (c *conversation) ask(message pgproto3.FrontendMessage) (pgproto3.BackendMessage, error) {
	c.server.Send(message)
	if err := c.server.Flush(); err != nil {
		return nil, err
	}
	c.said.Next(c.said.Len() - c.server.ReadBufferLen())
	return c.server.Receive()
}

// scram has the conversation of RFC 5802, in which both sides prove that they know the
// password. Whatever does not belong to it is left to pgx to read, refusals above all.
func (c *conversation) scram(offered []string) error {
	mechanism, keys, err := c.choose(offered)
	if err != nil {
		return err
	}
	text, err := keys.Step("")
	var reply pgproto3.FrontendMessage = &pgproto3.SASLInitialResponse{AuthMechanism: mechanism, Data: []byte(text)}
	for err == nil && !keys.Done() {
		message, failure := c.ask(reply)
		if failure != nil {
			return failure
		}
		var data string
		switch m := message.(type) {
		case *pgproto3.AuthenticationSASLContinue:
			data = string(m.Data)
		case *pgproto3.AuthenticationSASLFinal:
			data = string(m.Data)
		case *pgproto3.ErrorResponse:
			return nil
		}
		if tooManyRounds.MatchString(data) {
			return refuse("SCRAM with a million rounds or more")
		}
		text, err = keys.Step(data)
		reply = &pgproto3.SASLResponse{Data: []byte(text)}
	}
	if err != nil || !keys.Valid() {
		return refuse("SCRAM: %w", err)
	}
	c.said.Next(c.said.Len() - c.server.ReadBufferLen())
	return nil
}

// choose begins a conversation, bound to the server's certificate where both
// sides can. Where only the server cannot, it says that we could, so that a server
// that can finds out that somebody in between took it off the list.
func (c *conversation) choose(offered []string) (mechanism string, begun *scram.ClientConversation, err error) {
	keys := c.derived()
	begun = keys.NewConversation()
	if encrypted, ok := c.conn.(*tls.Conn); ok && c.binding != "disable" {
		state := encrypted.ConnectionState()
		certificate, err := scram.NewTLSServerEndpointBinding(&state)
		switch bound := slices.Contains(offered, scramBound); {
		case bound && err == nil:
			return scramBound, keys.NewConversationWithChannelBinding(certificate), nil
		case !bound:
			begun = keys.NewConversationAdvertisingChannelBinding()
		}
	}
	if c.binding == "require" {
		return "", nil, refuse("channel binding is required, and the server cannot")
	}
	if !slices.Contains(offered, scramPlain) {
		return "", nil, refuse("the server offers %q, none of which is known", offered)
	}
	return scramPlain, begun, nil
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

// groups are TLS's key exchanges that are not post-quantum, in the order in which
// Go prefers them. Go sends a key share for its first choice alone, and Postgres up
// to 17 takes another, for which it asks at the price of one more round trip. So
// the groups before the one that the server took last are left out.
var groups = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// encrypt performs the TLS handshake, with the groups that the server is known to take.
func (l *login) encrypt(ctx context.Context, cork *corked, config *tls.Config) (*tls.Conn, error) {
	i := slices.Index(groups, tls.CurveID(l.group.Load()))
	if i >= 0 {
		config = config.Clone()
		config.CurvePreferences = groups[i:]
	}
	encrypted := tls.Client(cork, config)
	err := encrypted.HandshakeContext(context.WithoutCancel(ctx)) // which would close cork: its deadline bounds it
	if err == nil {
		l.group.Store(uint32(encrypted.ConnectionState().CurveID))
		return encrypted, nil
	}
	_, _ = cork.Conn.Write(cork.held) // the alert, which tells the server what we did not accept
	if isAlert(err) && i >= 0 {       // passes: the next connection offers all groups again
		l.group.Store(0)
		err = errors.New("the server refuses the group that it chose before: " + err.Error())
	}
	return encrypted, err
}

// corked is a connection that sends what is written to it when it is read from: the
// end of the TLS handshake travels with the start-up message.
type corked struct {
	net.Conn
	held     []byte
	uncorked bool
}

func (c *corked) Write(p []byte) (int, error) {
	if c.uncorked {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

func (c *corked) Read(p []byte) (int, error) {
	if len(c.held) > 0 {
		if _, err := c.Conn.Write(c.held); err != nil {
			return 0, err
		}
		c.held = nil
	}
	return c.Conn.Read(p)
}

// startedConn is a connection whose start-up has begun. pgx sends its start-up message
// all the same, which goes nowhere, and reads what the server has said since.
type startedConn struct {
	net.Conn
	started bool
	mu      sync.Mutex // of what follows: pgx reads in one goroutine, and closes in another that reads, too
	said    []byte     // by the server, and not read yet
}

func (c *startedConn) Read(p []byte) (n int, err error) {
	c.mu.Lock()
	n = copy(p, c.said)
	c.said = c.said[n:]
	c.mu.Unlock()
	if n == 0 {
		return c.Conn.Read(p)
	}
	return n, nil
}

func (c *startedConn) Write(p []byte) (int, error) {
	if !c.started { // pgx writes its start-up message at once
		c.started = true
		return len(p), nil
	}
	return c.Conn.Write(p)
}
