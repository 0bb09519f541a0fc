package standin

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// verb returns a statement's first word in capitals. Comments may stand before it, as in the output of sqlc.
func verb(sql string) string {
	sql = strings.TrimSpace(sql)
	for strings.HasPrefix(sql, "--") {
		_, rest, _ := strings.Cut(sql, "\n")
		sql = strings.TrimSpace(rest)
	}
	word, _, _ := strings.Cut(strings.ToUpper(sql), " ")
	return strings.Trim(word, "(;\n\t")
}

// split cuts a simple query at its semicolons.
func split(sql string) (statements []string) {
	quoted := false
	parts := strings.FieldsFunc(sql, func(r rune) bool {
		if r == '\'' {
			quoted = !quoted
		}
		return r == ';' && !quoted
	})
	for _, part := range parts {
		if part = strings.TrimSpace(part); part != "" {
			statements = append(statements, part)
		}
	}
	return statements
}

// endsTransaction reports whether a statement may run inside a failed transaction.
func endsTransaction(sql string) bool {
	return slices.Contains([]string{"COMMIT", "END", "ROLLBACK", "ABORT"}, verb(sql))
}

// columns describes a statement's result: that of the given rows, else one column if the statement looks like it.
func columns(sql string, rows [][]string) pgproto3.BackendMessage {
	n := 0
	if rows != nil || slices.Contains([]string{"SELECT", "WITH", "VALUES", "SHOW"}, verb(sql)) ||
		strings.Contains(strings.ToLower(sql), "returning") {
		n = 1
	}
	if len(rows) > 0 {
		n = len(rows[0])
	}
	if n == 0 {
		return &pgproto3.NoData{}
	}
	description := &pgproto3.RowDescription{}
	for i := range n {
		name := string(rune('a' + i))
		description.Fields = append(description.Fields, pgproto3.FieldDescription{Name: []byte(name), DataTypeOID: textOID})
	}
	return description
}

const textOID = 25

var placeholder = regexp.MustCompile(`\$\d+`)

// parameters returns the type text for each placeholder, each used once.
func parameters(sql string) []uint32 {
	return slices.Repeat([]uint32{textOID}, len(placeholder.FindAllString(sql, -1)))
}

// complete returns a finished statement's tag, and the transaction status after it.
func complete(sql string, status byte, rows [][]string) (tag string, after byte) {
	word := verb(sql)
	switch word {
	case "BEGIN", "START":
		return "BEGIN", 'T'
	case "COMMIT", "END":
		if status == 'E' {
			return "ROLLBACK", 'I'
		}
		return "COMMIT", 'I'
	case "ROLLBACK", "ABORT":
		return "ROLLBACK", 'I'
	case "SELECT", "WITH", "VALUES":
		return fmt.Sprintf("SELECT %d", len(rows)), status
	case "INSERT":
		return "INSERT 0 1", status
	case "UPDATE", "DELETE":
		return word + " 1", status
	}
	return word, status
}
