package connect

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"example.com/demo/internal/nopool"
)

// refusals tell what an error before the answer to BEGIN means, in this order.
// The SQLSTATE is not enough: Supavisor gives all of its own XX000, and PgBouncer
// 08P01. What is not listed is nopool.ErrUnavailable: 57P01 to 57P03, the rest of
// class 53, and what nobody has met yet.
var refusals = []struct {
	code  string // beginning of the SQLSTATE
	texts string // of which one is in the message, separated by |; "" matches any
	kind  error
}{
	// Supavisor: lib/supavisor/errors, client_handler. Its codes have longer forms, such as EMAXCONNSESSION.
	{"XX000", "EMAXCONN|MaxClientsInSessionMode|Max client connections reached", nopool.ErrPoolerFull},
	{"XX000", "ECHECKOUT|ESUBSCRIBERETRIES|EPOOL", nopool.ErrPoolerFull},
	{"XX000", "too many authentication failures|ENOTFOUND|Tenant or user not found|ESSLREQUIRED", nopool.ErrConfiguration},
	{"XX000", "EADDRNOTALLOWED|EBANNED|EINVALIDUSERINFO|ENOIDENTIFIER|EMULTIPLEUSERS", nopool.ErrConfiguration},
	// PgBouncer: client.c, objects.c, janitor.c.
	{"08P01", "no more connections allowed|client connections exceeded|query_wait_timeout|query_timeout", nopool.ErrPoolerFull},
	{"08P01", "has been failing", nopool.ErrUnavailable},
	{"08P01", "authentication failed|no such|unsupported startup parameter|SSL required", nopool.ErrConfiguration},
	// Postgres: appendix A of the manual.
	{"53300", "", nopool.ErrPoolerFull},
	{"28", "", nopool.ErrConfiguration},    // invalid authorization
	{"3D", "", nopool.ErrConfiguration},    // unknown database
	{"42", "", nopool.ErrConfiguration},    // privilege, unknown parameter
	{"22", "", nopool.ErrConfiguration},    // value of a setting
	{"55P02", "", nopool.ErrConfiguration}, // a setting that is fixed at the server's start
	{"25001", "", nopool.ErrConfiguration}, // a setting that comes too late in a transaction
	{"0A", "", nopool.ErrConfiguration},    // protocol feature
}

// kindOf says what an error between dial and the answer to BEGIN means.
func kindOf(err error) error {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		for _, r := range refusals {
			if strings.HasPrefix(pgErr.Code, r.code) && containsAny(pgErr.Message, r.texts) {
				return r.kind
			}
		}
		return nopool.ErrUnavailable
	}
	if errors.Is(err, nopool.ErrConfiguration) || isAlert(err) || errors.As(err, new(*tls.CertificateVerificationError)) ||
		errors.As(err, new(tls.RecordHeaderError)) || containsAny(err.Error(), lastingTexts) {
		return nopool.ErrConfiguration
	}
	return nopool.ErrUnavailable
}

// lastingTexts are what pgx says, without a type, of a server that does not speak TLS,
// asks for a method that is not allowed, or cannot prove that it knows the password.
const lastingTexts = "server refused TLS|require_auth check failed|channel binding|SCRAM"

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
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !strings.Contains(pgErr.Message, "has been failing") && // PgBouncer's own, at the server
		(strings.HasPrefix(pgErr.Code, "28") || containsAny(pgErr.Message, "authentication failed|too many authentication failures"))
}

// lasting is an error that will not pass by itself.
type lasting struct{ error }

func (lasting) Is(target error) bool { return target == nopool.ErrConfiguration }
func (l lasting) Unwrap() error      { return l.error }
