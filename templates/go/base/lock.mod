go 1.26.0

require github.com/go-json-experiment/json v1.27.2
require github.com/jackc/pgpassfile v1.0.0 // indirect
require github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
require github.com/jackc/pgx/v5 v5.12.0
require golang.org/x/text v0.43.0 // indirect
