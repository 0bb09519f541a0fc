package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"example.org/team/tiny-shop/internal/config"
	"example.org/team/tiny-shop/internal/localpg"
)

// devDir holds the private Postgres of the dev command and how to reach it.
const devDir = ".dev"

// dev serves on a Postgres of its own, which it starts, migrates and stops. Its
// data stays in devDir for the next time.
func (a app) dev(ctx context.Context) error {
	for _, variable := range a.environ {
		if env, ok := strings.CutPrefix(variable, "APP_ENV="); ok && env != "" && env != "local" {
			return fmt.Errorf("dev is for development: unset %s, or use serve", variable)
		}
	}
	server, err := localpg.Start(ctx, localpg.Options{Dir: filepath.Join(devDir, "postgres"), Durable: true})
	if err != nil {
		return err
	}
	defer server.Stop()
	if err := server.CreateDatabase(ctx, "tiny-shop"); err != nil {
		return err
	}
	url := server.URL("tiny-shop")
	// A file, so that the password is on no screen and in no log.
	env := filepath.Join(devDir, "env")
	if err := os.WriteFile(env, fmt.Appendf(nil, "export APP_ENV=local DATABASE_URL='%s'\n", url), 0o600); err != nil {
		return err
	}
	cfg, err := config.Load(slices.Concat(a.environ, []string{"APP_ENV=local", "DATABASE_URL=" + url, "MIGRATION_DATABASE_URL="}))
	if err != nil {
		return err
	}
	cfg.BudgetGuessed = false // nobody else uses this server
	if err := a.migrate(ctx, cfg, "up"); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(cfg.HTTPAddr)
	fmt.Fprintf(a.stdout, "serving on http://localhost:%s\n", port)
	fmt.Fprintf(a.stdout, "its database, from another terminal: . %s && psql \"$DATABASE_URL\"\n", env)
	serving, end := context.WithCancelCause(ctx)
	go func() {
		<-server.Done
		end(fmt.Errorf("Postgres has ended: see %s.log", server.Dir))
	}()
	if err = a.serve(serving, cfg); ctx.Err() == nil {
		err = errors.Join(err, context.Cause(serving))
	}
	return err
}
