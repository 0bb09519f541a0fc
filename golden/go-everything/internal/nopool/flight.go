package nopool

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

var errOpenTimeout = errors.New("no answer to BEGIN in time")

// flight stands between pgx and its connection. On it BEGIN travels with what pgx sends first, at
// no round trip of its own: it goes in front of that write, and its answer is taken out of what pgx
// reads. A Flush ends it, so the server answers it at once, however long the statement behind it
// takes. A Sync would too, but it also has the server go on after an error: the statement behind a
// BEGIN that failed would run by itself, and commit. Without one the server skips that statement.
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
	begun   bool       // BEGIN was not refused itself

	asked     []string // the caller's last statement, or those of a batch
	begunAnew bool     // one of the caller's has ended the transaction, and begun another
	head, tag []byte   // of what the server says now: the first five bytes, and a tag
	left      int      // of that

	isolation string        // the transaction's level, as the server says
	timeout   time.Duration // of a statement; 0 is none
}

func (f *flight) Write(p []byte) (int, error) {
	if f.begin == nil || p[0] == 'X' { // Terminate goes alone, when nothing was sent before it
		return f.writes.Write(p)
	}
	begin := f.begin
	f.begin, f.sent = nil, true
	n, err := f.writes.Write(append(begin, p...))
	f.laden = n >= len(begin)+len(p)-5 // all but a Sync
	if err != nil {
		f.await() // now: pgx discards what a server has said that closes while it is written to
	}
	return max(0, n-len(begin)), err
}

func (f *flight) Read(p []byte) (int, error) {
	f.await()
	n, err := f.reads.Read(p)
	f.watch(p[:n])
	return n, err
}

// chain matches what leaves another transaction behind, of which the tag does not tell: that of a rollback to a
// savepoint is the same.
var chain = regexp.MustCompile(`(?is)\b(rollback|abort)\b.*\bchain\b`)

// watch looks for the end of the caller's transaction and the begin of another in the tags of all statements, of which
// there can be several in one string: the server's status says no more than that there is one.
func (f *flight) watch(said []byte) {
	for len(said) > 0 {
		if f.left == 0 {
			n := min(len(said), 5-len(f.head))
			f.head, said = append(f.head, said[:n]...), said[n:]
			if len(f.head) < 5 {
				return
			}
			f.left = int(max(4, binary.BigEndian.Uint32(f.head[1:])&math.MaxInt32) - 4)
		}
		n := min(len(said), f.left)
		if f.head[0] == 'C' {
			f.tag = append(f.tag, said[:n]...)
		}
		said, f.left = said[n:], f.left-n
		if f.left > 0 {
			return
		}
		switch string(f.tag) {
		case "COMMIT\x00", "BEGIN\x00", "START TRANSACTION\x00":
			f.begunAnew = true
		case "ROLLBACK\x00":
			f.begunAnew = f.begunAnew || slices.ContainsFunc(f.asked, chain.MatchString)
		}
		f.head, f.tag = f.head[:0], f.tag[:0]
	}
}

// answer waits for the answer to BEGIN and returns why it was refused, nil when it was
// acknowledged. Until that is read pgx watches ctx.
func (f *flight) answer(ctx context.Context) error {
	if !f.sent {
		return cmp.Or(context.Cause(ctx), io.ErrClosedPipe)
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
	var said bytes.Buffer
	server := pgproto3.NewFrontend(io.TeeReader(f.reads, &said), nil)
	server.SetMaxBodyLen(1 << 24) // settings come back, and can be long
	var forPgx []byte
	for done := false; !done && f.err == nil; {
		var message pgproto3.BackendMessage
		message, f.err = server.Receive()
		switch m := message.(type) {
		case *pgproto3.CommandComplete:
			done, f.begun = f.begun, true // BEGIN, or its settings
		case *pgproto3.ErrorResponse: // the server skips the statement behind, without an answer
			f.err = pgconn.ErrorResponseToPgError(m)
			m.Severity = "FATAL" // or pgx would wait for one, and dial to cancel
			forPgx, _ = m.Encode(forPgx)
		case *pgproto3.DataRow: // the settings, and behind them the statement timeout that is in force and the level
			if level := len(m.Values) - 1; level >= 0 {
				f.isolation = string(m.Values[level])
				if seconds, err := strconv.ParseFloat(string(m.Values[max(0, level-1)]), 64); err == nil && level > 0 {
					f.timeout = time.Duration(seconds * float64(time.Second))
				}
			}
		case *pgproto3.ParameterStatus, *pgproto3.NoticeResponse, *pgproto3.NotificationResponse: // which may come at any time
			forPgx, _ = m.Encode(forPgx)
		}
	}
	said.Next(said.Len() - server.ReadBufferLen())
	f.reads = io.MultiReader(bytes.NewReader(forPgx), &said, f.reads)
	if f.err == nil && !f.onOpen() {
		f.err = errOpenTimeout
	}
}

// mayHaveRun reports whether what travelled with BEGIN can have, although BEGIN is not
// acknowledged: not if BEGIN was refused. PgBouncer by class 08, and Supavisor by a word
// of its own, say that they have lost their connection to the server.
func (f *flight) mayHaveRun(answer *pgconn.PgError) bool {
	return f != nil && f.laden && (answer == nil || strings.HasPrefix(answer.Code, "08") || strings.Contains(answer.Message, "EDBHANDLEREXITED"))
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
	for i, setting := range slices.Concat(settings, o.Settings) { // a value may be in more than ASCII, and client_encoding is still to be pinned
		calls = append(calls, fmt.Sprintf("set_config($%d, convert_from($%d, 'UTF8'), true)", 2*i+1, 2*i+2))
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
