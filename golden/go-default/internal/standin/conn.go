package standin

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"
)

// client is our side of a connection. It speaks what pgx speaks in its exec mode: one statement in each simple query,
// else unnamed Parse and Bind, with a Describe of the portal always right before its Execute; and asks for the types of
// statements without parameters.
type client struct {
	server   *Server
	socket   net.Conn
	backend  *pgproto3.Backend
	raw      net.Conn // the socket below TLS
	known    *Conn    // written by this connection's goroutine alone, under the server's lock
	sql      string   // of the last Parse
	answered bool     // something was sent since the last read
	skip     bool     // an error was sent, so all is ignored until Sync
	broken   bool     // by passes
	hung     bool     // all is ignored for good
}

// Read counts bursts.
func (c *client) Read(p []byte) (int, error) {
	n, err := c.socket.Read(p)
	if n > 0 && c.answered {
		c.answered = false
		c.server.locked(func() { c.known.Bursts++ })
	}
	return n, err
}

func (c *client) Write(p []byte) (int, error) {
	c.answered = true
	return c.socket.Write(p)
}

// negotiate answers requests for encryption and returns the message after them, or nil. Bursts are counted from that on.
func (c *client) negotiate() pgproto3.FrontendMessage {
	c.backend = pgproto3.NewBackend(c, c)
	for {
		message, err := c.backend.ReceiveStartupMessage()
		if err != nil {
			return nil
		}
		if _, ok := message.(*pgproto3.SSLRequest); !ok {
			c.known.Bursts = 1 // nobody else knows it yet
			return message
		}
		if !c.passes(Encrypting) {
			return nil
		}
		if c.server.tls == nil {
			_, _ = c.Write([]byte("N")) // a client that cannot read this sends no more
			continue
		}
		_, _ = c.Write([]byte("S"))
		c.socket = tls.Server(c.socket, c.server.tls)
	}
}

// passes returns false when a step is the connection's last.
func (c *client) passes(step Step) bool {
	var fault Fault
	if c.server.opts.OnStep != nil && !c.broken {
		fault = c.server.opts.OnStep(c.known.N, step)
	}
	switch fault {
	case nil:
		return !c.broken
	case Drop:
	case Hang:
		_, _ = io.Copy(io.Discard, c.raw) // whatever ends it
	case Reset:
		_ = c.raw.(*net.TCPConn).SetLinger(0)
	default:
		if step == Authenticated {
			c.send(&pgproto3.AuthenticationOk{})
		}
		c.refuse(fault)
	}
	c.broken = true
	return false
}

// checkOut waits for what a pooler has to find for a client first.
func (c *client) checkOut() {
	if c.server.opts.CheckOut == 0 {
		return
	}
	until := time.Now().Add(c.server.opts.CheckOut)
	_ = c.socket.SetReadDeadline(until)
	if _, err := c.socket.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.socket.Close()
		c.server.sleep(time.Until(until))
	}
	_ = c.socket.SetReadDeadline(time.Time{})
}

func (c *client) send(messages ...pgproto3.BackendMessage) {
	for _, m := range messages {
		c.backend.Send(m)
	}
}

// refuse ends a connection at start-up.
func (c *client) refuse(why *pgproto3.ErrorResponse) {
	c.send(why)
	_ = c.backend.Flush()
	c.server.locked(func() { c.known.End = "refused" })
}

// ready tells the client that it may go on, and sends all that was held back.
func (c *client) ready() bool {
	c.send(&pgproto3.ReadyForQuery{TxStatus: c.known.Status})
	return c.backend.Flush() == nil
}

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
	c.checkOut()
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

// converse answers messages until one side ends the connection.
func (c *client) converse() {
	var end string
	for end == "" {
		message, err := c.backend.Receive()
		if err != nil {
			end = "closed without a word"
		} else if _, ok := message.(*pgproto3.Terminate); ok {
			end = Terminated
		} else if !c.handle(message) {
			_ = c.backend.Flush()
			end = "dropped"
		}
	}
	c.server.locked(func() { c.known.End = end })
}

// handle answers one message. It returns false when the connection is over.
func (c *client) handle(message pgproto3.FrontendMessage) bool {
	if _, sync := message.(*pgproto3.Sync); c.hung || c.skip && !sync {
		return true
	}
	switch m := message.(type) {
	case *pgproto3.Query:
		alive := c.execute(m.String, false)
		c.skip = false
		return alive && (c.hung || c.ready())
	case *pgproto3.Parse:
		c.sql = m.Query
		c.send(&pgproto3.ParseComplete{})
	case *pgproto3.Bind:
		c.send(&pgproto3.BindComplete{})
	case *pgproto3.Describe:
		if m.ObjectType == 'S' {
			c.send(&pgproto3.ParameterDescription{})
			c.send(&pgproto3.NoData{})
		}
	case *pgproto3.Execute: // it answers the Describe of a portal too
		return c.execute(c.sql, true)
	case *pgproto3.Flush:
		return c.backend.Flush() == nil
	case *pgproto3.Sync:
		c.skip = false
		return c.ready()
	}
	return true
}

// execute answers one statement. It returns false when the connection is over.
func (c *client) execute(sql string, extended bool) bool {
	c.server.locked(func() { c.known.Statements = append(c.known.Statements, sql) })
	var reply Reply
	if c.server.opts.OnStatement != nil {
		known := *c.known
		reply = c.server.opts.OnStatement(&known, sql)
	}
	c.server.sleep(reply.Delay)
	if c.hung = reply.Hang; c.hung || reply.Drop {
		return c.hung
	}
	before := c.known.Status
	verb, _, _ := strings.Cut(strings.ToUpper(sql), " ")
	ends := verb == "COMMIT" || verb == "ROLLBACK"
	if before == 'E' && !ends && reply.Error == nil {
		reply.Error = Error("25P02", "current transaction is aborted, commands ignored until end of transaction block")
	}
	c.server.locked(func() { c.known.Status = after(before, verb, reply.Error != nil) })
	if reply.Error != nil {
		c.send(reply.Error)
		c.skip = true
		return c.backend.Flush() == nil && reply.Error.Severity != "FATAL"
	}
	if ends && before == 'E' {
		verb = "ROLLBACK" // which is how a client learns what became of its COMMIT
	}
	if verb == "SELECT" && reply.Rows == nil {
		reply.Rows = [][]string{{"1"}}
	}
	c.sendRows(reply.Rows, extended)
	c.send(&pgproto3.CommandComplete{CommandTag: []byte(verb)})
	return true
}

// after returns the transaction's status after a statement.
func after(status byte, verb string, failed bool) byte {
	switch {
	case verb == "COMMIT" || verb == "ROLLBACK":
		return 'I' // a COMMIT that fails has rolled back
	case failed && status == 'T':
		return 'E'
	case !failed && verb == "BEGIN":
		return 'T'
	}
	return status
}

func (c *client) sendRows(rows [][]string, extended bool) {
	if len(rows) > 0 {
		description := &pgproto3.RowDescription{}
		for i := range rows[0] {
			name := string(rune('a' + i))
			description.Fields = append(description.Fields, pgproto3.FieldDescription{Name: []byte(name), DataTypeOID: 25}) // text
		}
		c.send(description)
	} else if extended {
		c.send(&pgproto3.NoData{})
	}
	for _, row := range rows {
		data := &pgproto3.DataRow{}
		for _, value := range row {
			data.Values = append(data.Values, []byte(value))
		}
		c.send(data)
	}
}
