// Package notes is the example resource: its rules and its SQL. Replace it with your own.
package notes

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// Limits of a note, in characters, and of a page, in notes.
const (
	MaxTitle     = 200
	MaxBody      = 10_000
	DefaultLimit = 50
	MaxLimit     = 200
)

// Queries is what this package asks of a session.
type Queries interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Note is a stored note.
type Note struct {
	ID        int64     `json:"id"`
	Title     string    `json:"title"`
	Body      string    `json:"body"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Page is a part of all notes in the order of their ids. Next is what the next
// page comes after, nil on the last one.
type Page struct {
	Notes []Note `json:"notes"`
	Next  *int64 `json:"next"`
}

// Draft is what a client says of a note.
type Draft struct {
	Title string `json:"title"`
	Body  string `json:"body"`
}

// Problem says what is wrong with one field of a draft.
type Problem struct{ Field, Detail string }

// Problems returns what is wrong with the draft, nil if it is valid.
func (d Draft) Problems() []Problem {
	var problems []Problem
	for _, field := range []struct {
		name, value string
		least, most int // characters
	}{{"title", d.Title, 1, MaxTitle}, {"body", d.Body, 0, MaxBody}} {
		if n := utf8.RuneCountInString(field.value); n < field.least || n > field.most {
			problems = append(problems, Problem{field.name, fmt.Sprintf("must have %d to %d characters", field.least, field.most)})
		}
		if strings.ContainsRune(field.value, 0) { // Postgres stores no NUL in text
			problems = append(problems, Problem{field.name, "must not contain a NUL character"})
		}
	}
	return problems
}

// columns are named, so that one more in the table does not break a running service.
const columns = "id, title, body, created_at, updated_at"

// Create stores a note and returns it.
func Create(ctx context.Context, q Queries, d Draft) (Note, error) {
	return one(ctx, q, `insert into notes (title, body) values ($1, $2) returning `+columns, d.Title, d.Body)
}

// Get returns a note, or pgx.ErrNoRows.
func Get(ctx context.Context, q Queries, id int64) (Note, error) {
	return one(ctx, q, `select `+columns+` from notes where id = $1`, id)
}

// Update replaces a note's content and returns it, or pgx.ErrNoRows.
func Update(ctx context.Context, q Queries, id int64, d Draft) (Note, error) {
	return one(ctx, q, `update notes set title = $2, body = $3, updated_at = now() where id = $1 returning `+columns,
		id, d.Title, d.Body)
}

// Delete removes a note. It returns pgx.ErrNoRows when there was none.
func Delete(ctx context.Context, q Queries, id int64) error {
	_, err := one(ctx, q, `delete from notes where id = $1 returning `+columns, id)
	return err
}

// List returns up to limit notes whose id is above after.
func List(ctx context.Context, q Queries, limit int, after int64) (Page, error) {
	rows, err := q.Query(ctx, `select `+columns+` from notes where id > $1 order by id limit $2`, after, limit+1)
	if err != nil {
		return Page{}, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[Note])
	if err != nil || len(found) <= limit {
		return Page{Notes: found}, err
	}
	return Page{Notes: found[:limit], Next: &found[limit-1].ID}, nil
}

func one(ctx context.Context, q Queries, sql string, args ...any) (Note, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return Note{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Note])
}
