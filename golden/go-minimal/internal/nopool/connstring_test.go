package nopool

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestParseConfig(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, url  string
		plaintext  bool   // allowed on this machine
		want       string // part of the error, "" for none
		wantedAuth string
	}{
		{"require", "postgres://u:s3cret@h/db?sslmode=require", false, "", "scram-sha-256"},
		{"verify-full", "postgres://u:s3cret@h/db?sslmode=verify-full", false, "", ""},
		{"keywords", "host=h user=u password=s3cret dbname=db sslmode=require", false, "", "scram-sha-256"},
		{"parameters of other clients", "postgres://u:s3cret@h/db?sslmode=require&pgbouncer=true&connection_limit=1", false, "", "scram-sha-256"},
		{"plaintext on this machine", "postgres://u:s3cret@127.0.0.1/db?sslmode=disable", true, "", "scram-sha-256"},
		{"Unix socket", "postgres:///db?host=/tmp&user=u", true, "", "scram-sha-256"},
		{"plaintext elsewhere", "postgres://u:s3cret@h/db?sslmode=disable", true, "sslmode must be", ""},
		{"plaintext not allowed", "postgres://u:s3cret@127.0.0.1/db?sslmode=disable", false, "sslmode must be", ""},
		{"a name that is not loopback", "postgres://u:s3cret@127.0.0.1.example.com/db?sslmode=disable", true, "sslmode must be", ""},
		{"prefer", "postgres://u:s3cret@h/db?sslmode=prefer", false, "sslmode must be", ""},
		{"allow", "postgres://u:s3cret@h/db?sslmode=allow", false, "sslmode must be", ""},
		{"no sslmode", "postgres://u:s3cret@h/db", false, "sslmode must be", ""},
		{"empty", " ", false, "empty", ""},
		{"misspelt scheme", "posgres://u:s3cret@h/db?sslmode=require", false, "scheme", ""},
		{"misspelt scheme and slashes", "postgres//u:s3cret@h/db", false, "must begin with", ""},
		{"unescaped password", "postgres://u:s3c%ret@h/db?sslmode=require", false, "percent-encode", ""},
		{"no host", "postgres://u:s3cret@/db?sslmode=require", false, "no host", ""},
		{"two hosts", "postgres://u:s3cret@h1,h2/db?sslmode=require", false, "several hosts", ""},
		{"start-up parameter", "postgres://u:s3cret@h/db?sslmode=require&statement_timeout=5", false, "parameter", ""},
		{"options", "postgres://u:s3cret@h/db?sslmode=require&options=-cx=y", false, "parameter", ""},
		{"missing certificate file", "postgres://u:s3cret@h/db?sslmode=verify-full&sslrootcert=/s3cret", false, "cannot be read", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			config, err := ParseConfig(test.url, test.plaintext, false)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, ErrConfiguration) {
					t.Fatalf("error %v, want one of configuration that says %q", err, test.want)
				}
				if strings.Contains(err.Error(), "s3cret") {
					t.Fatalf("the error quotes the URL: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if config.RequireAuth != test.wantedAuth || config.Fallbacks != nil || config.DefaultQueryExecMode != pgx.QueryExecModeExec {
				t.Errorf("require_auth %q, %d fallbacks, exec mode %v", config.RequireAuth, len(config.Fallbacks), config.DefaultQueryExecMode)
			}
			if len(config.RuntimeParams) != 1 {
				t.Errorf("start-up parameters %v, want application_name alone", config.RuntimeParams)
			}
		})
	}
}

func TestPlainAuthentication(t *testing.T) {
	t.Parallel()
	config, err := ParseConfig("postgres://u:p@h/db?sslmode=require", false, true)
	if err != nil || config.RequireAuth != "" {
		t.Errorf("require_auth %q (%v), want any method when that is allowed", config.RequireAuth, err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add("postgres://u:HUNTER2@h/db?sslmode=require")
	f.Add("posgres://u:HUNTER2@h/db")
	f.Add("host=h password = HUNTER2 sslmode=bogus")
	f.Add("postgres://u:HUN TER2@h:port/db\x00")
	f.Fuzz(func(t *testing.T, url string) {
		config, err := ParseConfig(url, false, false)
		switch {
		case err != nil && strings.Contains(err.Error(), "HUNTER2"):
			t.Errorf("the error quotes the URL: %v", err)
		case err == nil && (config.TLSConfig == nil || len(config.Fallbacks) > 0):
			t.Errorf("%q gives a connection without TLS", url)
		}
	})
}
