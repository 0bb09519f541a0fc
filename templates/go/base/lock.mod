go 1.26.0

require github.com/jackc/pgpassfile v1.0.0 // indirect
require github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
require github.com/jackc/pgx/v5 v5.12.0
require github.com/xdg-go/scram v1.4.0
require github.com/xdg-go/stringprep v1.0.4 // indirect
require golang.org/x/mod v0.42.0 // indirect
require golang.org/x/sync v0.24.0 // indirect
require golang.org/x/text v0.43.0 // indirect
require golang.org/x/tools v0.52.0
