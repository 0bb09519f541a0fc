require github.com/jackc/puddle/v2 v2.2.3 // indirect
require github.com/mfridman/interpolate v0.0.2 // indirect
require github.com/pressly/goose/v3 v3.29.0
require github.com/sethvargo/go-retry v0.5.0 // indirect
require go.uber.org/multierr v1.11.0 // indirect
require golang.org/x/sync v0.24.0 // indirect
