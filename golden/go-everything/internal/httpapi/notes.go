package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strconv"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/notes"
)

func createNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	draft, err := readNote(r)
	if err != nil {
		return err
	}
	note, err := notes.Create(r.Context(), session, draft)
	if err != nil {
		return err
	}
	w.Header().Set("Location", fmt.Sprintf("/notes/%d", note.ID))
	writeJSON(w, http.StatusCreated, note)
	return nil
}

func listNotes(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	limit, err := queryInt(r, "limit", notes.DefaultLimit, 1, notes.MaxLimit)
	if err != nil {
		return err
	}
	after, err := queryInt(r, "after", 0, 0, math.MaxInt64)
	if err != nil {
		return err
	}
	page, err := notes.List(r.Context(), session, int(limit), after)
	return answerWith(w, page, err)
}

func getNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	id, err := noteID(r)
	if err != nil {
		return err
	}
	note, err := notes.Get(r.Context(), session, id)
	return answerWith(w, note, err)
}

func updateNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	id, err := noteID(r)
	if err != nil {
		return err
	}
	draft, err := readNote(r)
	if err != nil {
		return err
	}
	note, err := notes.Update(r.Context(), session, id, draft)
	return answerWith(w, note, err)
}

func deleteNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	id, err := noteID(r)
	if err != nil {
		return err
	}
	if err := notes.Delete(r.Context(), session, id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// answerWith answers with v, unless err says that there is none.
func answerWith(w http.ResponseWriter, v any, err error) error {
	if err == nil {
		writeJSON(w, http.StatusOK, v)
	}
	return err
}

// noteID reads the id from the path. What is no number names no note.
func noteID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, notFound
	}
	return id, nil
}

// readNote reads and validates a note's draft from the body, before any query:
// a bad request costs no connection.
func readNote(r *http.Request) (draft notes.Draft, err error) {
	if err := readJSON(r, &draft); err != nil {
		return draft, err
	}
	var fields []FieldError
	for _, problem := range draft.Problems() {
		fields = append(fields, FieldError(problem))
	}
	if fields != nil {
		return draft, &Error{http.StatusUnprocessableEntity, "invalid_note", "The note is not valid", fields}
	}
	return draft, nil
}

// readJSON reads the body, one JSON value, into v.
func readJSON(r *http.Request, v any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(v)
	if err == nil {
		if _, err = decoder.Token(); err == io.EOF {
			return nil
		}
	}
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return newError(http.StatusRequestTimeout, "slow_body", "The body took too long to arrive")
	}
	return newError(http.StatusBadRequest, "bad_json", "The body must be one JSON object without unknown fields")
}

// queryInt reads an optional number from the query string.
func queryInt(r *http.Request, name string, missing, least, most int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return missing, nil
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil || value < least || value > most {
		fields := []FieldError{{name, fmt.Sprintf("must be a number from %d to %d", least, most)}}
		return 0, &Error{http.StatusBadRequest, "bad_query", "A query parameter is not valid", fields}
	}
	return value, nil
}
