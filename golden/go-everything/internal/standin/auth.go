package standin

import (
	"crypto/rand"
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"
)

// authenticate lets the client in, or sends it away with the error that Postgres uses.
func (c *client) authenticate() bool {
	ok := true
	switch c.server.opts.Auth {
	case Cleartext:
		request := &pgproto3.AuthenticationCleartextPassword{}
		answer, _ := c.ask(request, pgproto3.AuthTypeCleartextPassword).(*pgproto3.PasswordMessage)
		ok = answer != nil && answer.Password == Password
	case SCRAM:
		ok = c.scram()
	}
	if c.broken {
		return false
	}
	if !ok {
		c.refuse(Fatal("28P01", fmt.Sprintf("password authentication failed for user %q", c.known.Parameters["user"])))
		return false
	}
	if !c.passes(Authenticated) {
		return false
	}
	c.send(&pgproto3.AuthenticationOk{},
		&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"}, // pgx wants these two for simple queries
		&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"},
		&pgproto3.BackendKeyData{ProcessID: uint32(c.known.N), SecretKey: []byte("key!")})
	return c.ready()
}

// ask sends a request for authentication and returns the answer, or nil.
func (c *client) ask(request pgproto3.BackendMessage, kind uint32) pgproto3.FrontendMessage {
	c.send(request)
	if c.backend.SetAuthType(kind) != nil || c.backend.Flush() != nil {
		return nil
	}
	answer, err := c.backend.Receive()
	if err == nil {
		c.server.locked(func() { c.server.stats.Passwords++ })
	}
	return answer
}

// scram is the server's side of SCRAM-SHA-256 without channel binding, as poolers have it.
func (c *client) scram() bool {
	conversation := c.server.scram.NewConversation()
	offer := &pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}
	first, _ := c.ask(offer, pgproto3.AuthTypeSASL).(*pgproto3.SASLInitialResponse)
	if first == nil || !c.passes(Challenged) {
		return false
	}
	challenge, err := conversation.Step(string(first.Data))
	if err != nil {
		return false
	}
	question := &pgproto3.AuthenticationSASLContinue{Data: []byte(challenge)}
	final, _ := c.ask(question, pgproto3.AuthTypeSASLContinue).(*pgproto3.SASLResponse)
	if final == nil || !c.passes(Proving) {
		return false
	}
	signature, err := conversation.Step(string(final.Data))
	if err != nil {
		return false
	}
	c.send(&pgproto3.AuthenticationSASLFinal{Data: []byte(signature)})
	return true
}

// newSCRAM returns what makes the server's side of conversations about Password.
func newSCRAM() (*scram.Server, error) {
	client, err := scram.SHA256.NewClient("", Password, "")
	if err != nil {
		return nil, err
	}
	keys, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: rand.Text(), Iters: 4096}) // as Postgres does
	if err != nil {
		return nil, err
	}
	return scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return keys, nil })
}
