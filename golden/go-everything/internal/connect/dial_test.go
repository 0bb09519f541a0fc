package connect

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestAddresses wants a host's addresses dialled one after the other until one
// accepts, that one first from then on, and the resolver asked now and then.
func TestAddresses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked, dialled, down := 0, []string(nil), map[string]bool{"192.0.2.1:5432": true}
		d := &dialer{
			resolve: func(context.Context, string) ([]string, error) {
				asked++
				return []string{"192.0.2.1", "2001:db8::1"}, nil
			},
			dial: func(ctx context.Context, _, address string) (net.Conn, error) {
				dialled = append(dialled, address)
				if down[address] {
					<-ctx.Done() // silent
					return nil, ctx.Err()
				}
				return &net.TCPConn{}, nil
			},
		}
		want := func(wanted ...string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			dialled = nil
			_, err := d.dialHost(ctx, "tcp", "host:5432")
			if !slices.Equal(dialled, wanted) || (err != nil) != (len(down) == 2) {
				t.Errorf("dialled %v, %v, want %v", dialled, err, wanted)
			}
		}
		const four, six = "192.0.2.1:5432", "[2001:db8::1]:5432"
		want(four, six)
		want(six)
		if asked != 1 {
			t.Errorf("the resolver was asked %d times, want once", asked)
		}
		time.Sleep(2 * addressTTL)
		want(six)
		down[six] = true
		want(six, four)
		delete(down, four)
		want(six, four)
		want(four)
		if asked < 2 {
			t.Error("the resolver was not asked again")
		}
	})
}

// TestResolverFails has a resolver fail once the addresses that it knew are old: they are
// dialled as long as it does, and no longer.
func TestResolverFails(t *testing.T) {
	t.Parallel()
	type answer func(ctx context.Context) ([]string, error)
	with := func(err error) answer { return func(context.Context) ([]string, error) { return nil, err } }
	fails := map[string]answer{
		"with an error":   with(&net.DNSError{Err: "server misbehaving", IsTemporary: true}),
		"with no host":    with(&net.DNSError{Err: "no such host", IsNotFound: true}),
		"with no address": with(nil),
		"silently":        func(ctx context.Context) ([]string, error) { <-ctx.Done(); return nil, ctx.Err() },
	}
	for name, fail := range fails {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broken, address := false, "192.0.2.1"
				dialled := ""
				d := &dialer{
					resolve: func(ctx context.Context, _ string) ([]string, error) {
						if broken {
							return fail(ctx)
						}
						return []string{address}, nil
					},
					dial: func(ctx context.Context, _, to string) (net.Conn, error) {
						dialled = to
						return &net.TCPConn{}, ctx.Err()
					},
				}
				for i, want := range []string{"192.0.2.1:5432", "192.0.2.1:5432", "192.0.2.1:5432", "192.0.2.2:5432"} {
					if broken = i == 1 || i == 2; i == 3 {
						address = "192.0.2.2"
					}
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
					_, err := d.dialHost(ctx, "tcp", "host:5432")
					cancel()
					if err != nil || dialled != want {
						t.Errorf("%d: dialled %s, %v", i, dialled, err)
					}
					time.Sleep(2 * addressTTL)
				}
			})
		})
	}
}

// TestUnixSocket wants the path of a socket dialled as it is, a colon in it or not.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/run/.s.PGSQL.5432", "/run/a:b/.s.PGSQL.5432"} {
		dialled := ""
		d := &dialer{
			resolve: func(context.Context, string) ([]string, error) { return nil, errors.New("no such host") },
			dial: func(_ context.Context, _, address string) (net.Conn, error) {
				dialled = address
				return &net.UnixConn{}, nil
			},
		}
		if _, err := d.dialHost(t.Context(), "unix", path); err != nil || dialled != path {
			t.Errorf("%s: dialled %q, %v", path, dialled, err)
		}
	}
}

// TestNoAddress wants an error from a resolver that knows none, not a connection
// that is nil.
func TestNoAddress(t *testing.T) {
	t.Parallel()
	d := &dialer{resolve: func(context.Context, string) ([]string, error) { return nil, nil }}
	if _, err := d.dialHost(t.Context(), "tcp", "host:5432"); err == nil {
		t.Error("dialled")
	}
}
