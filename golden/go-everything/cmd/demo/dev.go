package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"example.com/demo/internal/localpg"
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
	if err := server.CreateDatabase(ctx, "demo"); err != nil {
		return err
	}
	url := server.URL("demo")
	// A file, so that the password is on no screen and in no log.
	env := filepath.Join(devDir, "env")
	if err := os.WriteFile(env, fmt.Appendf(nil, "export APP_ENV=local DATABASE_URL='%s'\n", url), 0o600); err != nil {
		return err
	}
	getenv, settings := a.getenv, map[string]string{"APP_ENV": "local", "DATABASE_URL": url, "MIGRATION_DATABASE_URL": url}
	if getenv("DB_MAX_SESSIONS")+getenv("DB_POOL_SIZE") == "" {
		settings["DB_MAX_SESSIONS"] = "10" // nobody else uses this server, so there is nothing to guess
	}
	a.getenv = func(name string) string { return cmp.Or(settings[name], getenv(name)) }
	if err := a.migrate(ctx, "up"); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(cmp.Or(getenv("HTTP_ADDR"), ":8080")) // serve looks at it more closely
	fmt.Fprintf(a.stdout, "serving on http://localhost:%s\n", port)
	fmt.Fprintf(a.stdout, "its database, from another terminal: . %s && psql \"$DATABASE_URL\"\n", env)
	serving, end := context.WithCancel(ctx)
	go func() {
		<-server.Done()
		end()
	}()
	err = a.serve(serving)
	if serving.Err() != nil && ctx.Err() == nil {
		err = errors.Join(err, fmt.Errorf("Postgres has ended: see %s", filepath.Join(server.Options.Dir, "server.log")))
	}
	return err
}
