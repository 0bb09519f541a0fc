package connect

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"example.com/demo/internal/nopool"
)

// meaning is what a refusal before the answer to BEGIN means.
type meaning int

const (
	passing  meaning = iota // the database is out of reach, for now
	full                    // there is no place, for now
	unasked                 // the pooler cannot ask the database for our secret, for now
	lasting                 // the configuration is wrong
	password                // so are user or password, or too many of them were
)

type refusal struct {
	code   string // beginning of the SQLSTATE
	texts  string // of which one is in the message, separated by |; "" matches any
	means  meaning
	toMend string
}

// refusals tell what they mean, in this order, and what the owner can do where their own
// text does not say it. The SQLSTATE is not enough: Supavisor gives all of its own XX000,
// and PgBouncer 08P01. What is not listed is passing: 57P01 to 57P03, the rest of class
// 53, and what nobody has met yet.
var refusals = []refusal{
	// Supavisor: lib/supavisor/errors, client_handler. Its codes have longer forms, such as EMAXCONNSESSION.
	{"XX000", "EMAXCONN|MaxClientsInSessionMode|Max client connections reached", full, ""},
	{"XX000", "ECHECKOUT|ESUBSCRIBERETRIES|EPOOL", full, ""},
	{"XX000", "too many authentication failures", password, "mend the password, then wait for two minutes"},
	{"XX000", "ENOIDENTIFIER|EINVALIDUSERINFO|ENOTFOUND|Tenant or user not found", lasting, "at Supabase's pooler the user is postgres.PROJECTREF"},
	{"XX000", "ESSLREQUIRED|SSL connection is required|EADDRNOTALLOWED|EBANNED|EMULTIPLEUSERS", lasting, ""},
	{"XX000", "user not found in the database", password, mendLogin},
	{"XX000", "no auth_query", password, ""},
	{"XX000", "wrong format|secret format|parse SCRAM secret|MD5 secrets", password, "set the role's password again, with password_encryption = 'scram-sha-256'"},
	{"", "EAUTH|EJIT|Internal error (handshake)|ECIRCUITBREAKER", unasked, ""},
	{"08P01", "ESTARTUP", lasting, "shorten or mend user and database, and APP_NAME"},
	// PgBouncer: client.c, objects.c, janitor.c.
	{"08P01", "no more connections allowed|client connections exceeded|query_wait_timeout|query_timeout", full, ""},
	{"08P01", "has been failing", passing, ""}, // its own login at the server, whatever that said
	{"08P01", "authentication failed", password, mendLogin},
	{"08P01", "no such|unsupported|SSL required|no username|too long|empty password", lasting, ""},
	{"08P01", "login rejected|not allowed|invalid SASL|no authentication method|not supported by this build", lasting, "mend auth_type or auth_hba_file of the pooler"},
	// Postgres: appendix A of the manual.
	{"53300", "", full, ""},
	{"28P01", "", password, mendLogin},
	{"28", "", password, ""},   // invalid authorization
	{"3D", "", lasting, ""},    // unknown database
	{"42", "", lasting, ""},    // privilege, unknown parameter
	{"22", "", lasting, ""},    // value of a setting
	{"55P02", "", lasting, ""}, // a setting that is fixed at the server's start
	{"25001", "", lasting, ""}, // a setting that comes too late in a transaction
	{"0A", "", lasting, ""},    // protocol feature
}

const mendLogin = "mend user and password; in a URL both are percent-encoded"

// said looks up what a server means by err: nothing, if err is not a server's.
func said(err error) refusal {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	for _, r := range refusals {
		if ok && strings.HasPrefix(pgErr.Code, r.code) && containsAny(pgErr.Message, r.texts) {
			return r
		}
	}
	return refusal{}
}

// kindOf says what an error between dial and the answer to BEGIN means to a nopool.DB.
func kindOf(err error) error {
	means := said(err).means
	if !errors.As(err, new(*pgconn.PgError)) && isLasting(err) {
		means = lasting
	}
	switch means {
	case full:
		return nopool.ErrPoolerFull
	case lasting, password:
		return nopool.ErrConfiguration
	}
	return nopool.ErrUnavailable
}

// isLasting reports whether it is we that cannot go on with the server.
func isLasting(err error) bool {
	return isAlert(err) || errors.As(err, new(*tls.CertificateVerificationError)) ||
		errors.As(err, new(tls.RecordHeaderError)) || containsAny(err.Error(), lastingTexts)
}

// lastingTexts are what pgx says, without a type, of a server that does not speak TLS, asks for a
// method that is not allowed, or cannot prove that it knows the password; and how our own begin.
const lastingTexts = "server refused TLS|require_auth check failed|channel binding|SCRAM|authentication: "

func containsAny(text, alternatives string) bool {
	return slices.ContainsFunc(strings.Split(alternatives, "|"), func(part string) bool { return strings.Contains(text, part) })
}

// isAlert reports whether err is the server's refusal of the TLS handshake (RFC
// 8446, section 6). crypto/tls has a type for it in QUIC alone.
func isAlert(err error) bool {
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && operation.Op == "remote error"
}

// IsAuthentication reports whether err is a refused user or password, or the
// pooler's block that follows too many of them.
func IsAuthentication(err error) bool {
	return said(err).means == password
}

// Explain returns err as it may be printed, with what to do about it. It leaves out user
// and database: in a mistyped URL they can be parts of the password.
func Explain(err error) string {
	text := err.Error()
	if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		text = strings.ReplaceAll(text, failed.Error(), nopool.Describe(failed))
	}
	if toMend := said(err).toMend; toMend != "" {
		text += ": " + toMend
	}
	return text
}

// OnceMore calls open, and again after 1 to 2 s if the password was refused: Supavisor
// refuses a new one once, out of its cache, and learns it by that.
func OnceMore(ctx context.Context, open func(context.Context) error) error {
	err := open(ctx)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "28P01" {
		return err
	}
	select {
	case <-time.After(time.Second + rand.N(time.Second)):
		return open(ctx)
	case <-ctx.Done():
		return err
	}
}
