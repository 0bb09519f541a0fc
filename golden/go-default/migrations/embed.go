// Package migrations holds the database's schema as numbered SQL files. Make the next one as
// 00002_what_it_does.sql, with an Up and a Down part; a file that cannot run in a transaction
// begins with "-- +goose NO TRANSACTION". One with another name that ends in .sql is an error.
package migrations

import "embed"

// FS holds every file of this folder, so that a folder without any migration still compiles.
//
//go:embed *
var FS embed.FS
