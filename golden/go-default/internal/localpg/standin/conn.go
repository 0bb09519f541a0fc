package standin

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// End is how a connection ended.
type End string

// The ends of a connection.
const (
	StillOpen  End = ""
	Refused    End = "refused"    // at start-up, by us
	Dropped    End = "dropped"    // later, by us
	Terminated End = "terminated" // by the client, politely
	EOF        End = "eof"        // by the client, without a word
)

// Info is what the pooler knows of a client.
type Info struct {
	N          int // its place in the order of start-up messages, from 1
	TLS        bool
	Parameters map[string]string // of the start-up message
	Statements []string          // as received, in order
	Status     byte              // I, T or E: outside, inside or inside a failed transaction
	Bursts     int               // times the client sent after it had read our answer; the start-up message is the first
	End        End
}

// Conn is one client's connection.
type Conn struct {
	server  *Server
	net     net.Conn
	in      *bufio.Reader
	backend *pgproto3.Backend
	secret  []byte

	// Of the connection's goroutine alone.
	answered bool // something was sent since the last read
	skip     bool // an error was sent, so all is ignored until Sync
	prepared map[string]string
	portals  map[string]*portal

	// Guarded by server.mu.
	info            Info
	busy, cancelled bool
}

// portal is a bound statement. OnStatement is asked at whichever comes first, Describe or Execute.
type portal struct {
	sql   string
	reply *Reply
}

// Info returns what is known of the connection now.
func (c *Conn) Info() (info Info) {
	c.note(func(i *Info) {
		info = *i
		info.Statements = slices.Clone(i.Statements)
	})
	return info
}

func (c *Conn) note(change func(*Info)) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	change(&c.info)
}

// counted is a connection's byte stream, in which bursts are counted.
type counted struct{ *Conn }

func (s counted) Read(p []byte) (int, error) {
	n, err := s.net.Read(p)
	if n > 0 && s.answered {
		s.answered = false
		s.note(func(i *Info) { i.Bursts++ })
	}
	return n, err
}

func (s counted) Write(p []byte) (int, error) {
	s.answered = true
	return s.net.Write(p)
}

// negotiate answers the requests for encryption and returns the message after them. Bursts are counted from that on.
func (c *Conn) negotiate(raw net.Conn) (pgproto3.FrontendMessage, error) {
	for {
		c.net, c.answered = raw, true
		c.note(func(i *Info) { i.Bursts = 0 })
		c.in = bufio.NewReaderSize(counted{c}, 1<<16)
		c.backend = pgproto3.NewBackend(c.in, counted{c})
		message, err := c.backend.ReceiveStartupMessage()
		if err != nil {
			return nil, err
		}
		switch message.(type) {
		case *pgproto3.SSLRequest:
			if c.server.tls == nil {
				_, err = raw.Write([]byte("N"))
				break
			}
			if _, err = raw.Write([]byte("S")); err == nil {
				encrypted := tls.Server(raw, c.server.tls)
				err, raw = encrypted.Handshake(), encrypted
				c.note(func(i *Info) { i.TLS = true })
			}
		case *pgproto3.GSSEncRequest:
			_, err = raw.Write([]byte("N"))
		default:
			return message, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// refuse ends a connection at start-up.
func (c *Conn) refuse(why *pgproto3.ErrorResponse) {
	c.send(why)
	_ = c.backend.Flush()
	c.end(Refused)
}

func (c *Conn) send(messages ...pgproto3.BackendMessage) {
	for _, m := range messages {
		c.backend.Send(m)
	}
}

// ready tells the client that it may go on, and sends all that was held back.
func (c *Conn) ready() bool {
	c.send(&pgproto3.ReadyForQuery{TxStatus: c.Info().Status})
	return c.backend.Flush() == nil
}

// converse answers messages until one side ends the connection.
func (c *Conn) converse() {
	c.prepared, c.portals = map[string]string{}, map[string]*portal{}
	for {
		message, err := c.backend.Receive()
		if err != nil {
			c.end(EOF)
			return
		}
		if _, ok := message.(*pgproto3.Terminate); ok {
			c.end(Terminated)
			return
		}
		if !c.handle(message) {
			_ = c.backend.Flush()
			c.end(Dropped)
			return
		}
	}
}

// end notes how the connection ended, unless that is known already.
func (c *Conn) end(how End) {
	c.note(func(i *Info) {
		if i.End == StillOpen {
			i.End = how
		}
	})
}

// handle answers one message. It returns false when the connection is over.
func (c *Conn) handle(message pgproto3.FrontendMessage) bool {
	switch m := message.(type) {
	case *pgproto3.Query:
		for _, sql := range split(m.String) {
			if alive := c.execute(&portal{sql: sql}, true); !alive {
				return false
			} else if c.skip {
				break
			}
		}
		c.skip = false
		return c.ready()
	case *pgproto3.Sync:
		c.skip = false
		return c.ready()
	case *pgproto3.Flush:
		return c.backend.Flush() == nil
	}
	if c.skip {
		return true
	}
	switch m := message.(type) {
	case *pgproto3.Parse:
		c.prepared[m.Name] = m.Query
		c.send(&pgproto3.ParseComplete{})
	case *pgproto3.Bind:
		c.portals[m.DestinationPortal] = &portal{sql: c.prepared[m.PreparedStatement]}
		c.send(&pgproto3.BindComplete{})
	case *pgproto3.Describe:
		if m.ObjectType == 'P' {
			return c.describe(c.portals[m.Name])
		}
		c.send(&pgproto3.ParameterDescription{ParameterOIDs: parameters(c.prepared[m.Name])}, columns(c.prepared[m.Name], nil))
	case *pgproto3.Execute:
		return c.execute(c.portals[m.Portal], false)
	case *pgproto3.Close:
		c.send(&pgproto3.CloseComplete{})
	}
	return true
}

func (c *Conn) describe(p *portal) bool {
	alive := c.resolve(p)
	if alive && !c.skip {
		c.send(columns(p.sql, p.reply.Rows))
	}
	return alive
}

// execute answers one statement, with its columns in the simple protocol.
func (c *Conn) execute(p *portal, simple bool) bool {
	if alive := c.resolve(p); !alive || c.skip {
		return alive
	}
	rows := p.reply.Rows
	if description, ok := columns(p.sql, rows).(*pgproto3.RowDescription); ok {
		if simple {
			c.send(description)
		}
		if rows == nil {
			rows = [][]string{{"1"}}
		}
	}
	for _, row := range rows {
		data := &pgproto3.DataRow{}
		for _, value := range row {
			data.Values = append(data.Values, []byte(value))
		}
		c.send(data)
	}
	c.note(func(i *Info) {
		var tag string
		tag, i.Status = complete(p.sql, i.Status, rows)
		c.send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
	})
	return true
}

// resolve asks once what happens to a statement and does what ends it early: an error, which is sent here, or the end
// of the connection, for which it returns false.
func (c *Conn) resolve(p *portal) bool {
	if p.reply != nil {
		return true
	}
	p.reply = &Reply{}
	var status byte
	c.note(func(i *Info) {
		i.Statements = append(i.Statements, p.sql)
		c.busy, c.cancelled, status = true, false, i.Status
	})
	if c.server.opts.OnStatement != nil {
		*p.reply = c.server.opts.OnStatement(c, p.sql)
	}
	cancelled, gone := false, false
	if p.reply.Hang || p.reply.Delay > 0 {
		cancelled, gone = c.wait(p.reply.Delay, p.reply.Hang)
	}
	c.note(func(*Info) { c.busy = false })
	refusal, ends := p.reply.Error, endsTransaction(p.sql)
	switch {
	case gone || p.reply.Drop:
		return false
	case cancelled:
		refusal = Error("57014", "canceling statement due to user request")
	case refusal == nil && status == 'E' && !ends:
		refusal = Error("25P02", "current transaction is aborted, commands ignored until end of transaction block")
	}
	if refusal == nil {
		return true
	}
	c.send(refusal)
	c.skip = true
	c.note(func(i *Info) {
		if ends {
			i.Status = 'I' // a COMMIT that fails has rolled back
		} else if i.Status == 'T' {
			i.Status = 'E'
		}
	})
	return refusal.Severity != "FATAL"
}

// wait passes the time of a slow or hanging statement. It ends early when a cancel request comes or the client goes.
func (c *Conn) wait(delay time.Duration, forever bool) (cancelled, gone bool) {
	c.note(func(*Info) {
		if !forever && !c.cancelled {
			_ = c.net.SetReadDeadline(time.Now().Add(delay))
		}
	})
	var err error
	for err == nil { // what arrives meanwhile stays in the buffer
		_, err = c.in.Peek(c.in.Buffered() + 1)
	}
	c.note(func(*Info) {
		cancelled = c.cancelled
		_ = c.net.SetReadDeadline(time.Time{})
	})
	if gone = !errors.Is(err, os.ErrDeadlineExceeded); gone {
		c.end(EOF)
	}
	return cancelled, gone
}
