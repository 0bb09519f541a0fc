package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"example.org/team/tiny-shop/internal/localpg"
)

// devDir holds the private Postgres of the dev command and how to reach it.
const devDir = ".dev"

// dev serves on a Postgres of its own, which it starts, migrates and stops. Its
// data stays in devDir for the next time.
func (a app) dev(ctx context.Context) (err error) {
	if env := a.getenv("APP_ENV"); env != "" && env != "local" {
		return fmt.Errorf("dev is for development, and APP_ENV is %q: unset it, or use serve", env)
	}
	server, err := localpg.Start(ctx, localpg.Options{Dir: filepath.Join(devDir, "postgres"), Durable: true})
	if err != nil {
		return err
	}
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
		defer cancel()
		err = errors.Join(err, server.Stop(stopCtx))
	}()
	if err := server.CreateDatabase(ctx, "tiny-shop"); err != nil {
		return err
	}
	return a.serveOn(ctx, server)
}

func (a app) serveOn(ctx context.Context, server *localpg.Server) error {
	url := server.URL("tiny-shop")
	cfg, err := load(func(name string) string {
		switch name {
		case "APP_ENV":
			return "local"
		case "DATABASE_URL", "MIGRATION_DATABASE_URL":
			return url
		}
		return a.getenv(name)
	})
	if err != nil {
		return err
	}
	cfg.BudgetGuessed = false // nobody else uses this server
	// A file, so that the password is on no screen and in no log.
	env := filepath.Join(devDir, "env")
	if err := os.WriteFile(env, fmt.Appendf(nil, "export APP_ENV=local DATABASE_URL='%s'\n", url), 0o600); err != nil {
		return err
	}
	if err := runMigrations(ctx, cfg, a.stdout, "up"); err != nil {
		return err
	}
	s, err := newService(cfg, a.stderr)
	if err != nil {
		return err
	}
	s.ready = func(addr net.Addr) {
		_, port, _ := net.SplitHostPort(addr.String()) // an address that is listened on has a port
		fmt.Fprintf(a.stdout, "serving on http://localhost:%s\n", port)
		fmt.Fprintf(a.stdout, "its database, from another terminal: . %s && psql \"$DATABASE_URL\"\n", env)
	}
	go func() {
		<-server.Done()
		s.failed <- fmt.Errorf("Postgres has ended: see %s", filepath.Join(server.Options.Dir, "server.log"))
	}()
	return s.run(ctx)
}
