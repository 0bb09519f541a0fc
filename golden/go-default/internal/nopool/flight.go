package nopool

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// flight stands between pgx and its connection. On it BEGIN travels with what pgx
// sends first, at no round trip of its own: it goes in front of that write, and its
// answer is taken out of what pgx reads. A Flush ends it, so the server answers it at
// once, however long the statement behind it takes. A Sync would too, but it also has
// the server go on after an error: the statement behind a BEGIN that failed would run
// by itself, and commit. Without one the server skips that statement.
type flight struct {
	reads  io.Reader
	writes io.Writer
	begin  []byte      // goes in front of the next write
	onOpen func() bool // is called when BEGIN is acknowledged, and says whether that is in time
	sent   bool
	laden  bool // something behind BEGIN was sent with it, and not only in part

	waiting sync.Mutex // for the answer: pgx copies with a goroutine that reads
	over    bool       // the answer has been read
	err     error      // why it is no acknowledgement

	isolation string        // the transaction's level, as the server says
	timeout   time.Duration // of a statement; 0 is none
	patience  atomic.Int64  // with a statement's answer, in nanoseconds; 0 where a context bounds it
}

func (f *flight) Write(p []byte) (int, error) {
	if f.begin == nil || p[0] == 'X' { // Terminate goes alone, when nothing was sent before it
		return f.writes.Write(p)
	}
	begin := f.begin
	f.begin, f.sent = nil, true
	n, err := f.writes.Write(append(begin, p...))
	f.laden = n >= len(begin)+len(p)-5 // all but a Sync
	return max(0, n-len(begin)), err
}

// board sends BEGIN ahead of a batch, which pgx writes to its connection past the
// flight. It is a packet of its own then, but nothing waits for its answer.
func (f *flight) board(ctx context.Context, conn net.Conn) (err error) {
	if f.begin != nil {
		defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
		_, err = f.writes.Write(f.begin)
		f.begin, f.sent, f.laden = nil, true, err == nil
	}
	return err
}

func (f *flight) Read(p []byte) (int, error) {
	f.await()
	return f.reads.Read(p)
}

// answer waits for the answer to BEGIN and returns why it was refused, nil when it was
// acknowledged. On a connection that pgx has closed nobody watches ctx any more, so
// answer does. Where pgx has a batch open it still watches ctx itself, and a second
// watch could leave a deadline behind that nobody takes back.
func (f *flight) answer(ctx context.Context, conn *pgconn.PgConn) error {
	if !f.sent {
		return cmp.Or(context.Cause(ctx), io.ErrClosedPipe)
	}
	if conn.IsClosed() {
		defer context.AfterFunc(ctx, func() { _ = conn.Conn().SetDeadline(time.Unix(1, 0)) })()
	}
	f.await()
	return f.err
}

// await reads the answer to BEGIN, once, if BEGIN has been sent.
func (f *flight) await() {
	f.waiting.Lock()
	defer f.waiting.Unlock()
	if f.over || !f.sent {
		return
	}
	f.over = true
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
		case 'D': // the settings, and behind them the statement timeout that is in force and the level
			var row pgproto3.DataRow
			if row.Decode(message[5:]) == nil && len(row.Values) > 0 {
				level := len(row.Values) - 1
				f.isolation = string(row.Values[level])
				if seconds, err := strconv.ParseFloat(string(row.Values[max(0, level-1)]), 64); err == nil && level > 0 {
					f.timeout = time.Duration(seconds * float64(time.Second))
				}
			}
		case 'S', 'N', 'A': // what may come at any time
			forPgx = append(forPgx, message...)
		}
	}
	f.reads = io.MultiReader(bytes.NewReader(forPgx), f.reads)
	if f.err == nil && !f.onOpen() {
		f.err = errOpenTimeout
	}
	if f.err == nil && f.timeout > 0 {
		f.patience.Store(int64(f.timeout + statementMargin)) // so far the bound was that of the opening
	}
}

// mayHaveRun reports whether what travelled with BEGIN can have, although BEGIN is not
// acknowledged: not if BEGIN was refused. PgBouncer by class 08, and Supavisor by a word
// of its own, say that they have lost their connection to the server.
func (f *flight) mayHaveRun(answer *pgconn.PgError) bool {
	return f != nil && f.laden && (answer == nil || strings.HasPrefix(answer.Code, "08") || strings.Contains(answer.Message, "EDBHANDLEREXITED"))
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

// pinned sets what the text of results and of arrays depends on, which role and database can have changed.
const pinned = "set_config('client_encoding', 'UTF8', true), set_config('DateStyle', 'ISO', true), " +
	"set_config('IntervalStyle', 'postgres', true), set_config('array_nulls', 'on', true), set_config('extra_float_digits', '3', true), set_config('bytea_output', 'hex', true)"

// begin returns the messages that begin a session's transaction and make settings, in
// this order, those of o and what is pinned behind them. All end with the transaction, so
// the next client of the pooler's connection does not inherit them.
func begin(o TxOptions, settings []Setting) (messages []byte) {
	begin := "begin"
	if o.Isolation != "" {
		begin += " isolation level " + string(o.Isolation)
	}
	if o.ReadOnly {
		begin += " read only"
	}
	var calls []string
	var values [][]byte
	for i, setting := range slices.Concat(settings, o.Settings) {
		call := "set_config($%d, $%d, true)"
		if i >= len(settings) { // o's may be in more than ASCII, which is read before client_encoding is pinned
			call = "set_config($%d, convert_from($%d, 'UTF8'), true)"
		}
		calls = append(calls, fmt.Sprintf(call, 2*i+1, 2*i+2))
		values = append(values, []byte(setting.Name), []byte(setting.Value))
	}
	calls = append(calls, pinned, "extract(epoch from current_setting('statement_timeout')::interval)",
		"current_setting('transaction_isolation')") // role or database may have changed its default
	for _, message := range []pgproto3.FrontendMessage{
		&pgproto3.Parse{Query: begin}, &pgproto3.Bind{}, &pgproto3.Execute{},
		&pgproto3.Parse{Query: "select " + strings.Join(calls, ", ")}, &pgproto3.Bind{ParameterFormatCodes: []int16{pgproto3.BinaryFormat}, Parameters: values}, &pgproto3.Execute{},
		&pgproto3.Flush{},
	} {
		messages, _ = message.Encode(messages) // which fails above a gigabyte alone
	}
	return messages
}
