package pgtest

import (
	"io"
	"net"
	"net/url"
	"slices"
	"testing"
)

// nearby returns a URL of the same database that the code under test accepts: plaintext is for this machine alone, so a
// server elsewhere that speaks nothing else, such as the container beside a CI job, is reached through a relay here.
func nearby(t testing.TB, databaseURL string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal("pgtest: TEST_DATABASE_URL is malformed") // the error might quote a password
	}
	query := u.Query()
	if slices.Contains([]string{"require", "verify-ca", "verify-full"}, query.Get("sslmode")) {
		return databaseURL
	}
	query.Set("sslmode", "disable")
	u.RawQuery = query.Encode()
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return u.String()
	}
	server := u.Host
	if u.Port() == "" {
		server = net.JoinHostPort(u.Hostname(), "5432")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go relay(listener, server)
	u.Host = listener.Addr().String()
	return u.String()
}

func relay(listener net.Listener, server string) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // closed with the test
		}
		go func() {
			defer client.Close()
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(upstream, client)
				upstream.Close()
			}()
			_, _ = io.Copy(client, upstream)
		}()
	}
}
