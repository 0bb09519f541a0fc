package dialer

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"
)

const (
	scramPlain, scramBound = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"

	mostRounds     = 1_000_000 // a server that asks for more wants to keep us busy
	maxAuthMessage = 1 << 16   // bytes
	usesOfKeys     = 1000
)

// conversations returns the keys to have a conversation with. They are dropped
// now and then, since some servers make a new salt for each connection.
func (d *Dialer) conversations() *scram.Client {
	if keys := d.keys.Load(); keys != nil && d.uses.Add(1)%usesOfKeys != 0 {
		return keys
	}
	client, err := scram.SHA256.NewClient("", d.connect.Password, "")
	if err != nil { // not a valid SASLprep string: taken as it is, as Postgres does
		client, _ = scram.SHA256.NewClientUnprepped("", d.connect.Password, "")
	}
	if !d.strict { // else at least 4,096 rounds, as RFC 7677 wants
		client.WithMinIterations(1)
	}
	d.keys.Store(client)
	return client
}

// authConn is a connection that authenticates between the start-up message,
// which pgx writes, and the server's AuthenticationOk, which pgx reads.
type authConn struct {
	net.Conn
	*Dialer
	ctx     context.Context
	bind    bool   // to the server's certificate, where the server can (RFC 5929)
	entered bool   // it is this connection's turn at the guard
	proven  bool   // the server knows the password
	over    bool   // nothing is left to do here
	unread  []byte // messages for pgx
}

func (c *authConn) Read(p []byte) (int, error) {
	for !c.over && len(c.unread) == 0 {
		if err := c.next(); err != nil {
			c.leave(false)
			return 0, err
		}
	}
	if len(c.unread) > 0 {
		n := copy(p, c.unread)
		c.unread = c.unread[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// Write makes the TLS handshake when it writes the start-up message.
func (c *authConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if IsAlert(err) && c.group.Swap(0) != 0 { // the next connection offers all groups again
		err = fmt.Errorf("the server refuses the group that it chose before: %s", err.Error())
	}
	return n, err
}

func (c *authConn) Close() error {
	c.leave(false)
	return c.Conn.Close()
}

// next handles one message of the server. What is not SCRAM is left to pgx,
// unless nothing else is accepted.
func (c *authConn) next() error {
	message, err := c.receive()
	if err != nil {
		return err
	}
	request := uint32(0)
	if message[0] == 'R' {
		request = binary.BigEndian.Uint32(message[5:])
	}
	switch {
	case message[0] != 'R':
		c.unread = message // a notice, or a parameter
		return nil
	case request == pgproto3.AuthTypeSASL && c.speak:
		return c.exchange(message[5:])
	case c.strict && c.speak && !c.proven:
		return errors.New("authentication method requirement not met: the server does not ask for SCRAM")
	case request == pgproto3.AuthTypeOk:
		c.over = true
		c.leave(false)
	case !c.entered:
		if err := c.enter(); err != nil {
			return err
		}
	}
	c.unread = message
	return nil
}

// exchange is SCRAM as in RFC 5802, with the server's list of mechanisms.
func (c *authConn) exchange(offer []byte) error {
	var list pgproto3.AuthenticationSASL
	if err := list.Decode(offer); err != nil {
		return err
	}
	conversation, mechanism, err := c.conversation(list.AuthMechanisms)
	if err != nil {
		return err
	}
	hello, err := conversation.Step("")
	if err != nil {
		return err
	}
	challenge, err := c.ask(&pgproto3.SASLInitialResponse{AuthMechanism: mechanism, Data: []byte(hello)}, pgproto3.AuthTypeSASLContinue)
	if err != nil || c.over {
		return err
	}
	if rounds := roundsOf(challenge); rounds > mostRounds {
		return fmt.Errorf("SCRAM: the server asks for %d rounds, more than %d", rounds, mostRounds)
	}
	if err := c.enter(); err != nil {
		return err
	}
	proof, err := conversation.Step(challenge)
	if err != nil {
		return fmt.Errorf("SCRAM: %w", err)
	}
	final, err := c.ask(&pgproto3.SASLResponse{Data: []byte(proof)}, pgproto3.AuthTypeSASLFinal)
	c.leave(false)
	if err != nil || c.over {
		return err
	}
	if _, err := conversation.Step(final); err != nil {
		return fmt.Errorf("SCRAM: %w", err)
	}
	c.proven = conversation.Valid()
	return nil
}

// conversation chooses the mechanism: bound to the server's certificate where
// both sides can. Saying that we could have lets the server find out that
// somebody in between has struck it from the list.
func (c *authConn) conversation(offered []string) (*scram.ClientConversation, string, error) {
	keys := c.conversations()
	encrypted, isTLS := c.Conn.(*tls.Conn)
	if isTLS {
		state := encrypted.ConnectionState()
		binding, err := scram.NewTLSServerEndpointBinding(&state)
		switch bound := slices.Contains(offered, scramBound); {
		case c.bind && bound && err == nil:
			return keys.NewConversationWithChannelBinding(binding), scramBound, nil
		case c.bind && !bound && slices.Contains(offered, scramPlain):
			return keys.NewConversationAdvertisingChannelBinding(), scramPlain, nil
		}
	}
	if !slices.Contains(offered, scramPlain) {
		return nil, "", fmt.Errorf("SASL: the server offers %q, none of which is known", offered)
	}
	return keys.NewConversation(), scramPlain, nil
}

// ask sends a message and returns the data of the server's answer, which must be
// of the given type. An error that the server answers is left to pgx.
func (c *authConn) ask(message pgproto3.FrontendMessage, answer uint32) (string, error) {
	out, err := message.Encode(nil)
	if err != nil {
		return "", err
	}
	if _, err := c.Write(out); err != nil {
		return "", err
	}
	for {
		in, err := c.receive()
		switch {
		case err != nil || c.over:
			return "", err
		case in[0] == 'N':
			continue
		case in[0] == 'R' && binary.BigEndian.Uint32(in[5:]) == answer:
			return string(in[9:]), nil
		}
		return "", fmt.Errorf("SASL: unexpected message %q", in[0])
	}
}

// receive reads one message. An error of the server ends the authentication
// and is left to pgx.
func (c *authConn) receive() ([]byte, error) {
	var header [5]byte
	if _, err := io.ReadFull(c.Conn, header[:]); err != nil {
		return nil, err
	}
	if encrypted, ok := c.Conn.(*tls.Conn); ok {
		c.group.Store(uint32(encrypted.ConnectionState().CurveID))
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size < 4 || size > maxAuthMessage || (header[0] == 'R' && size < 8) {
		return nil, fmt.Errorf("message %q of %d bytes while authenticating", header[0], size)
	}
	message := make([]byte, 1+size)
	copy(message, header[:])
	if _, err := io.ReadFull(c.Conn, message[5:]); err != nil {
		return nil, err
	}
	if message[0] == 'E' {
		c.over, c.unread = true, message
		var refusal pgproto3.ErrorResponse
		c.leave(refusal.Decode(message[5:]) == nil && IsAuthentication(pgconn.ErrorResponseToPgError(&refusal)))
	}
	return message, nil
}

func (c *authConn) enter() error {
	err := c.guard.enter(c.ctx)
	c.entered = err == nil
	return err
}

func (c *authConn) leave(refused bool) {
	if c.entered || refused {
		c.guard.leave(c.entered, refused)
		c.entered = false
	}
}

// IsAlert reports whether err is the server's refusal of the TLS handshake (RFC
// 8446, section 6). crypto/tls has a type for it in QUIC alone.
func IsAlert(err error) bool {
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && operation.Op == "remote error"
}

// roundsOf returns the iteration count in a server-first-message, 0 if none.
func roundsOf(challenge string) int {
	for part := range strings.SplitSeq(challenge, ",") {
		if digits, ok := strings.CutPrefix(part, "i="); ok {
			if n, err := strconv.Atoi(digits); err == nil {
				return n
			}
			return mostRounds + 1
		}
	}
	return 0
}
