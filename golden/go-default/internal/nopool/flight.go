package nopool

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// flight is a connection on which BEGIN travels with what pgx sends first, at no
// round trip of its own: it goes in front of that write, and its answer is taken
// out of what pgx reads. A Flush ends it, so the server answers it at once, however
// long the statement behind it takes. A Sync would too, but it also has the server go
// on after an error: the statement behind a BEGIN that failed would run by itself, and
// commit. Without one the server skips that statement.
type flight struct {
	net.Conn
	begin  []byte // goes in front of the next write
	onOpen func() // is called when BEGIN is acknowledged

	sent    atomic.Bool
	reading sync.Mutex    // of what follows
	reads   io.Reader     // a bufio.Reader until the answer to BEGIN has been read
	over    chan struct{} // closed then
	err     error         // why it is no acknowledgement

	isolation string // the transaction's level, as the server says
}

func (f *flight) Write(p []byte) (int, error) {
	if f.begin == nil || p[0] == 'X' { // Terminate goes alone, when nothing was sent before it
		return f.Conn.Write(p)
	}
	f.sent.Store(true)
	n, err := f.Conn.Write(append(f.begin, p...))
	n = max(0, n-len(f.begin))
	f.begin = nil
	return n, err
}

func (f *flight) Read(p []byte) (int, error) {
	f.reading.Lock()
	defer f.reading.Unlock()
	if unanswered, ok := f.reads.(*bufio.Reader); ok { // pgx may wait here already when BEGIN goes out
		_, _ = unanswered.Peek(1) // an error of it comes again
		f.await()
	}
	return f.reads.Read(p)
}

// answer waits for the answer to BEGIN and returns why it was refused, nil when it was
// acknowledged. On a connection that pgx has closed nobody watches ctx any more, so
// answer does. Where pgx has a batch open it still watches ctx itself, and a second
// watch could leave a deadline behind that nobody takes back.
func (f *flight) answer(ctx context.Context, closed bool) error {
	if !f.sent.Load() {
		return cmp.Or(context.Cause(ctx), io.ErrClosedPipe)
	}
	if closed {
		defer context.AfterFunc(ctx, func() { _ = f.Conn.SetDeadline(time.Unix(1, 0)) })()
	}
	if f.reading.TryLock() { // else pgx reads already, since it still writes: the answer comes first
		f.await()
		f.reading.Unlock()
	}
	<-f.over
	return f.err
}

// await reads the answer to BEGIN, once, if BEGIN has been sent. The caller holds
// the lock.
func (f *flight) await() {
	if _, unanswered := f.reads.(*bufio.Reader); !unanswered || !f.sent.Load() {
		return
	}
	defer close(f.over)
	var forPgx []byte
	for done := 0; done < 2 && f.err == nil; { // BEGIN, and its settings
		var message []byte
		if message, f.err = readMessage(f.reads); f.err != nil {
			break
		}
		switch message[0] {
		case 'C': // CommandComplete
			done++
		case 'E': // the server skips the statement behind, without an answer
			var refusal pgproto3.ErrorResponse
			_ = refusal.Decode(message[5:])
			f.err = pgconn.ErrorResponseToPgError(&refusal)
			refusal.Severity = "FATAL" // or pgx would wait for one, and dial to cancel
			forPgx, _ = refusal.Encode(forPgx)
		case 'D': // the settings, and behind them the level
			var row pgproto3.DataRow
			if row.Decode(message[5:]) == nil && len(row.Values) > 0 {
				f.isolation = string(row.Values[len(row.Values)-1])
			}
		case 'S', 'N', 'A': // what may come at any time
			forPgx = append(forPgx, message...)
		}
	}
	f.reads = io.MultiReader(bytes.NewReader(forPgx), f.reads)
	if f.err == nil {
		f.onOpen()
	}
}

// readMessage reads one message of the protocol ("Message Formats" in the
// Postgres manual), and not a byte more.
func readMessage(r io.Reader) ([]byte, error) {
	var head [5]byte
	_, err := io.ReadFull(r, head[:])
	length := binary.BigEndian.Uint32(head[1:])
	if err != nil || length < 4 || length > 1<<24 { // settings come back, and can be long
		return nil, cmp.Or(err, errors.New("malformed answer to BEGIN"))
	}
	message := append(head[:], make([]byte, length-4)...)
	_, err = io.ReadFull(r, message[len(head):])
	return message, err
}

// begin returns the messages that begin the session's transaction and set its
// timeouts and the caller's own settings. Timeouts cannot be start-up parameters:
// PgBouncer refuses those and Supavisor drops them. All end with the transaction,
// so the next client of the pooler's connection does not inherit them.
func (s *Session) begin() (messages []byte) {
	begin := "begin"
	if s.opts.Isolation != "" {
		begin += " isolation level " + string(s.opts.Isolation)
	}
	if s.opts.ReadOnly {
		begin += " read only"
	}
	settings := []Setting{
		{"statement_timeout", milliseconds(s.db.config.StatementTimeout)},
		{"lock_timeout", milliseconds(s.db.config.LockTimeout)},
		{"idle_in_transaction_session_timeout", milliseconds(s.db.config.IdleInTransactionTimeout)},
	}
	var calls []string
	var values [][]byte
	for i, setting := range append(settings, s.opts.Settings...) {
		calls = append(calls, fmt.Sprintf("set_config($%d, $%d, true)", 2*i+1, 2*i+2))
		values = append(values, []byte(setting.Name), []byte(setting.Value))
	}
	calls = append(calls, "current_setting('transaction_isolation')") // role or database may have changed its default
	for _, message := range []pgproto3.FrontendMessage{
		&pgproto3.Parse{Query: begin}, &pgproto3.Bind{}, &pgproto3.Execute{},
		&pgproto3.Parse{Query: "select " + strings.Join(calls, ", ")}, &pgproto3.Bind{Parameters: values}, &pgproto3.Execute{},
		&pgproto3.Flush{},
	} {
		messages, _ = message.Encode(messages) // which fails above a gigabyte alone
	}
	return messages
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
