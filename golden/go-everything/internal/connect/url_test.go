package connect

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, url string
		plaintext bool   // allowed on this machine
		want      string // part of the error, "" for none
		strict    bool   // nothing but SCRAM
	}{
		{"require", "postgres://u:s3cret@h/db?sslmode=require", false, "", true},
		{"verify-full", "postgres://u:s3cret@h/db?sslmode=verify-full", false, "", false},
		{"keywords", "host=h user=u password=s3cret dbname=db sslmode=require", false, "", true},
		{"parameters of other clients", "postgres://u:s3cret@h/db?sslmode=require&pgbouncer=true&connection_limit=1", false, "", true},
		{"plaintext on this machine", "postgres://u:s3cret@127.0.0.1/db?sslmode=disable", true, "", true},
		{"Unix socket", "postgres:///db?host=/tmp&user=u", true, "", true},
		{"plaintext elsewhere", "postgres://u:s3cret@h/db?sslmode=disable", true, "sslmode must be", false},
		{"plaintext not allowed", "postgres://u:s3cret@127.0.0.1/db?sslmode=disable", false, "sslmode must be", false},
		{"a name that is not loopback", "postgres://u:s3cret@127.0.0.1.example.com/db?sslmode=disable", true, "sslmode must be", false},
		{"prefer", "postgres://u:s3cret@h/db?sslmode=prefer", false, "sslmode must be", false},
		{"allow", "postgres://u:s3cret@h/db?sslmode=allow", false, "sslmode must be", false},
		{"no sslmode", "postgres://u:s3cret@h/db", false, "sslmode must be", false},
		{"empty", " ", false, "empty", false},
		{"misspelt scheme", "posgres://u:s3cret@h/db?sslmode=require", false, "scheme", false},
		{"misspelt scheme and slashes", "postgres//u:s3cret@h/db", false, "must begin with", false},
		{"unescaped password", "postgres://u:s3c%ret@h/db?sslmode=require", false, "percent-encode", false},
		{"no host", "postgres://u:s3cret@/db?sslmode=require", false, "no host", false},
		{"two hosts", "postgres://u:s3cret@h1,h2/db?sslmode=require", false, "several hosts", false},
		{"parameters of sockets and caches", "postgres://u:s3cret@h/db?sslmode=require&keepalives_idle=3&prepared_statement_cache_size=0&gssencmode=disable&target_session_attrs=read-write", false, "", true},
		{"Neon's endpoint", "postgres://u:s3cret@h/db?sslmode=require&options=endpoint%3Dep-cool-name-123", false, "", true},
		{"start-up parameter", "postgres://u:s3cret@h/db?sslmode=require&statement_timeout=5", false, "parameter statement_timeout", false},
		{"options", "postgres://u:s3cret@h/db?sslmode=require&options=-cx%3Ds3cret", false, "parameter options", false},
		{"a tenant in options", "postgres://u:s3cret@h/db?sslmode=require&options=reference%3Ds3cret", false, "parameter options", false},
		{"unknown sslmode", "postgres://u:s3cret@h/db?sslmode=no-verify", false, "sslmode must be", false},
		{"unknown value", "postgres://u:s3cret@h/db?sslmode=require&channel_binding=s3cret", false, "value of channel_binding", false},
		{"unknown value of another", "postgres://u:s3cret@h/db?sslmode=require&connect_timeout=s3cret", false, "value of connect_timeout", false},
		{"unreadable parameter", "postgres://u:s3cret@h/db?sslmode=require&channel_binding=require;", false, "malformed", false},
		{"unknown keyword", "host=h user=u password=a s3cret=b sslmode=require", false, "malformed", false},
		{"missing certificate file", "postgres://u:s3cret@h/db?sslmode=verify-full&sslrootcert=/s3cret", false, "file of sslrootcert", false},
		{"no certificate in it", "postgres://u:s3cret@h/db?sslmode=verify-full&sslrootcert=/dev/null", false, "file of sslrootcert", false},
		{"missing certificate and key", "postgres://u:s3cret@h/db?sslmode=require&sslcert=/s3cret&sslkey=/s3cret", false, "file of sslkey", false},
		{"unknown value of a keyword", "host=h user=u password=s3cret sslmode=no-verify", false, "sslmode must be", false},
		{"no such port", "postgres://u:s3cret@h:77777/db?sslmode=require", false, "value of port", false},
		{"a slash in the password", "postgres://app:12/s3cret@h/db?sslmode=require", false, "percent-encode", false},
		{"at and slash", "postgres://app:x@y/s3cret@h/db?sslmode=require", false, "percent-encode", false},
		{"a question mark in the password", "postgres://app:12?s3cret@h/db?sslmode=require", false, "percent-encode", false},
		{"question mark and ampersand", "postgres://app:12?s3cret&x@h/db?sslmode=require", false, "percent-encode", false},
		{"a question mark and a name that is taken", "postgres://app:12?host=x:s3cret@h/db&sslmode=require", false, "percent-encode", false},
		{"a number sign in the password", "postgres://app:12#s3cret@h/db?sslmode=require", false, "percent-encode", false},
		{"an at sign in the database", "postgres://u:s3cret@h/a%40b?sslmode=require", false, "", true},
		{"quotes", `"postgres://u:s3cret@h/db?sslmode=require"`, false, "quotes", false},
		{"a quote", `'postgres://u:s3cret@h/db`, false, "quotes", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			connector, err := Parse(test.url, Options{AllowPlaintext: test.plaintext})
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, nopool.ErrConfiguration) {
					t.Fatalf("error %v, want one of configuration that says %q", err, test.want)
				}
				if strings.Contains(err.Error(), "s3cret") {
					t.Fatalf("the error quotes the URL: %v", err)
				}
				return
			}
			must(t, err)
			wantConfig(t, connector, test.strict)
		})
	}
}

// wantConfig looks at what a Connector's connections are made with.
func wantConfig(t *testing.T, connector *Connector, strict bool) {
	t.Helper()
	config, err := connector.Config()
	must(t, err)
	if speaksOnlySCRAM(connector) != strict || config.Fallbacks != nil || config.DefaultQueryExecMode != pgx.QueryExecModeDescribeExec {
		t.Errorf("SCRAM alone: %t, %d fallbacks, exec mode %v", !strict, len(config.Fallbacks), config.DefaultQueryExecMode)
	}
	if len(config.RuntimeParams) != 1 || config.RuntimeParams["application_name"] == "" { // to Supavisor that is malformed
		t.Errorf("start-up parameters %v, want a name alone", config.RuntimeParams)
	}
}

// TestEnvironment has what psql reads beside a URL that says all, and wants nothing but a missing password to come from there.
func TestEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"PGSERVICE": "absent", "PGSERVICEFILE": "/absent", "PGSSLCERT": "/absent", "PGSSLROOTCERT": "/absent", "PGSSLCERTMODE": "x", "PGCONNECT_TIMEOUT": "x",
		"PGTARGETSESSIONATTRS": "x", "PGREQUIREAUTH": "md5", "PGCHANNELBINDING": "x", "PGMINPROTOCOLVERSION": "x", "PGSSLNEGOTIATION": "x", "PGSSLMODE": "disable",
		"PGPORT": "x", "PGHOST": "other", "PGUSER": "other", "PGDATABASE": "other", "PGOPTIONS": "-c x=y", "PGPASSWORD": standin.Password,
	} {
		t.Setenv(name, value)
	}
	for _, url := range []string{"postgres://u:p@h/db?sslmode=require", "host=h user=u password=p dbname=db sslmode=require"} {
		c, err := Parse(url, Options{AllowPlainAuth: true})
		must(t, err)
		if got := c.config; got.Host != "h" || got.Port != 5432 || got.User != "u" || got.Database != "db" || got.ChannelBinding == "x" {
			t.Errorf("%s: %+v", url, got.Config)
		}
	}
	pooler := standin.Start(t, standin.Options{Auth: standin.SCRAM})
	must(t, on(t, strings.Replace(pooler.URL(), ":"+standin.Password, "", 1), nil).Run(t.Context(), nopool.TxOptions{}, selectOne))
	if os.Getenv("PGSERVICE") == "" {
		t.Error("the environment has changed")
	}
}

func TestNothingSecretIsPrinted(t *testing.T) {
	t.Parallel()
	c, err := Parse("postgres://u:s3cret@h/db?sslmode=require", Options{})
	must(t, err)
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, verb+"\n", c)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("", "connector", c)
	if text := out.String(); strings.Contains(text, "s3cret") || strings.Contains(text, fmt.Sprintf("%x", "s3cret")) {
		t.Errorf("the password is in:\n%s", text)
	}
}

func TestPlainAuthentication(t *testing.T) {
	t.Parallel()
	connector, err := Parse("postgres://u:p@h/db?sslmode=require", Options{AllowPlainAuth: true})
	if err != nil || speaksOnlySCRAM(connector) {
		t.Errorf("nothing but SCRAM (%v), want any method when that is allowed", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("postgres://u:HUNTER2@h/db?sslmode=require")
	f.Add("posgres://u:HUNTER2@h/db")
	f.Add("host=h password = HUNTER2 sslmode=bogus")
	f.Add("postgres://u:HUN TER2@h:port/db\x00")
	f.Fuzz(func(t *testing.T, url string) {
		connector, err := Parse(url, Options{})
		switch {
		case err != nil && strings.Contains(err.Error(), "HUNTER2"):
			t.Errorf("the error quotes the URL: %v", err)
		case err == nil && (connector.config.TLSConfig == nil || len(connector.config.Fallbacks) > 0):
			t.Errorf("%q gives a connection without TLS", url)
		}
	})
}
