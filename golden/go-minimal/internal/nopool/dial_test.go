package nopool

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// TestAddressIsSkipped wants the next address after one that two sessions could not
// dial at the same time, and the resolver asked again when none is left.
func TestAddressIsSkipped(t *testing.T) {
	t.Parallel()
	asked := 0
	d := newDialer(&pgx.ConnConfig{Config: pgconn.Config{LookupFunc: func(context.Context, string) ([]string, error) {
		asked++
		return []string{"192.0.2.1", "2001:db8::1"}, nil
	}}})
	lookup := func(want string) {
		t.Helper()
		got, err := d.config.LookupFunc(t.Context(), "host")
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%v, %v, want %s alone", got, err, want)
		}
	}
	lookup("192.0.2.1")
	d.skip("192.0.2.1:5432")
	d.skip("192.0.2.1:5432")
	lookup("2001:db8::1")
	d.skip("[2001:db8::1]:5432")
	lookup("192.0.2.1")
	if asked != 2 {
		t.Errorf("the resolver was asked %d times, want 2", asked)
	}
	// A silent address takes longer than the others are kept: they come first from then on.
	for range 2 {
		d.addresses.Load().until = time.Now()
		d.skip("192.0.2.1:5432")
		lookup("2001:db8::1")
	}
}

// TestRequiredBinding keeps the password from a server that asks for it in the
// clear where channel_binding=require says that nothing but SCRAM will do.
func TestRequiredBinding(t *testing.T) {
	t.Parallel()
	d := newDialer(&pgx.ConnConfig{Config: pgconn.Config{Password: "secret", ChannelBinding: "require"}})
	server := scripted{Reader: bytes.NewReader(encode(&pgproto3.AuthenticationCleartextPassword{}))}
	_, err := d.start(t.Context(), &pgconn.Config{RuntimeParams: map[string]string{}}, server)
	if !errors.Is(err, errNotSCRAM) {
		t.Errorf("%v, want errNotSCRAM", err)
	}
}
