package standin

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// authenticate lets the client in, or sends it away with the error that Postgres uses.
func (c *client) authenticate() bool {
	ok := true
	switch c.server.opts.Auth {
	case Cleartext:
		answer, _ := c.ask(&pgproto3.AuthenticationCleartextPassword{}, pgproto3.AuthTypeCleartextPassword).(*pgproto3.PasswordMessage)
		ok = answer != nil && c.check(answer.Password == Password)
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

// check counts wrong passwords.
func (c *client) check(right bool) bool {
	if !right {
		c.server.locked(func() { c.server.stats.Failed++ })
	}
	return right
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

// scram is the server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding, as poolers have it.
func (c *client) scram() bool {
	first, _ := c.ask(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}, pgproto3.AuthTypeSASL).(*pgproto3.SASLInitialResponse)
	if first == nil || !c.passes(Challenged) {
		return false
	}
	// "n,,n=,r=NONCE": the header says whether the client could bind to a channel, and comes back as base64.
	fields := strings.SplitN(string(first.Data), ",", 3)
	if len(fields) != 3 {
		return false
	}
	header, bare := fields[0]+","+fields[1]+",", fields[2]
	_, nonce, _ := strings.Cut(bare, "r=")
	nonce += rand.Text()
	keys := c.server.keys
	challenge := fmt.Sprintf("r=%s,s=%s,i=%d", nonce, encode(keys.salt), iterations)
	final, _ := c.ask(&pgproto3.AuthenticationSASLContinue{Data: []byte(challenge)}, pgproto3.AuthTypeSASLContinue).(*pgproto3.SASLResponse)
	if final == nil || !c.passes(Proving) {
		return false
	}
	unproven, proof, _ := strings.Cut(string(final.Data), ",p=")
	if unproven != "c="+encode([]byte(header))+",r="+nonce {
		return false
	}
	signed := bare + "," + challenge + "," + unproven
	storedKey, want := sha256.Sum256(keys.client), make([]byte, sha256.Size)
	subtle.XORBytes(want, keys.client, mac(storedKey[:], signed))
	if !c.check(proof == encode(want)) {
		return false
	}
	c.send(&pgproto3.AuthenticationSASLFinal{Data: []byte("v=" + encode(mac(keys.server, signed)))})
	return true
}

const iterations = 4096 // Postgres's own default

// scramKeys are what a server keeps of a password.
type scramKeys struct{ salt, client, server []byte }

func newSCRAMKeys() scramKeys {
	salt := []byte(rand.Text())
	salted, err := pbkdf2.Key(sha256.New, Password, salt, iterations, sha256.Size)
	if err != nil {
		panic(err) // only FIPS mode has reasons, none of which holds
	}
	return scramKeys{salt, mac(salted, "Client Key"), mac(salted, "Server Key")}
}

func encode(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}
