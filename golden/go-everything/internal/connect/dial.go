package connect

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// dialer dials the host, and keeps its addresses.
type dialer struct {
	dial    pgconn.DialFunc
	resolve pgconn.LookupFunc
	hosts   atomic.Pointer[hosts]
}

// addressTTL is how long the addresses of the host are kept. Go keeps none, and
// a session that dials must not ask the resolver each time.
const addressTTL = 5 * time.Second

// dialHost is a pgconn.DialFunc that dials the addresses of a host, one at a time,
// until one accepts. Left to itself, pgx would also go on to the next after a
// refusal, and ask a pooler that is full as often as it has addresses.
func (d *dialer) dialHost(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if network == "unix" || err != nil || net.ParseIP(host) != nil { // the last is where pgx cancels a statement
		return d.dial(ctx, network, address)
	}
	known, err := d.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	for i, ip := range known.addresses {
		share, cancel := ctx, context.CancelFunc(func() {})
		if deadline, ok := ctx.Deadline(); ok { // one that is silent must leave time for the others
			share, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(known.addresses)-i))
		}
		var conn net.Conn
		conn, err = d.dial(share, network, net.JoinHostPort(ip, port))
		cancel()
		if err == nil {
			if i > 0 {
				d.hosts.Store(&hosts{from(known.addresses, i), known.until})
			}
			return conn, nil
		}
	}
	return nil, err
}

// hosts are the addresses of the host, the one first that accepted last.
type hosts struct {
	addresses []string
	until     time.Time
}

func (d *dialer) lookup(ctx context.Context, host string) (*hosts, error) {
	known := d.hosts.Load()
	if known != nil && time.Now().Before(known.until) {
		return known, nil
	}
	found, err := d.resolve(ctx, host)
	if err != nil || len(found) == 0 {
		return nil, cmp.Or(err, errors.New("the host has no address"))
	}
	if known != nil {
		found = from(found, max(0, slices.Index(found, known.addresses[0])))
	}
	known = &hosts{found, time.Now().Add(addressTTL)}
	d.hosts.Store(known)
	return known, nil
}

// from returns a list that begins with the one at i and goes round.
func from(list []string, i int) []string { return slices.Concat(list[i:], list[:i]) }
