package main

import (
	"context"
	"io"
	"slices"

	"example.org/team/tiny-shop/internal/config"
	"example.org/team/tiny-shop/internal/migrate"
	"example.org/team/tiny-shop/migrations"
)

func (a app) migrate(ctx context.Context, command string) error {
	if !slices.Contains(migrate.Commands, command) {
		return errUsage
	}
	cfg, err := load(a.getenv)
	if err != nil {
		return err
	}
	return runMigrations(ctx, cfg, a.stdout, command)
}

func runMigrations(ctx context.Context, cfg config.Config, out io.Writer, command string) error {
	return migrate.Run(ctx, migrate.Options{
		Connector:      cfg.Migrations,
		FS:             migrations.FS,
		Out:            out,
		ConnectTimeout: cfg.DB.ConnectTimeout,
		AllowPooler:    cfg.MigrationAllowPooler,
	}, command)
}
