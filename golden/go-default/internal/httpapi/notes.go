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
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, page)
	return nil
}

func getNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	id, err := noteID(r)
	if err != nil {
		return err
	}
	note, err := notes.Get(r.Context(), session, id)
	if err != nil {
		return noteError(err)
	}
	writeJSON(w, http.StatusOK, note)
	return nil
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
	if err != nil {
		return noteError(err)
	}
	writeJSON(w, http.StatusOK, note)
	return nil
}

func deleteNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	id, err := noteID(r)
	if err != nil {
		return err
	}
	if err := notes.Delete(r.Context(), session, id); err != nil {
		return noteError(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

var noSuchNote = &Error{Status: http.StatusNotFound, Code: "not_found", Detail: "There is no such note"}

func noteError(err error) error {
	if errors.Is(err, notes.ErrNotFound) {
		return noSuchNote
	}
	return err
}

// noteID reads the id from the path. What is no number names no note.
func noteID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, noSuchNote
	}
	return id, nil
}

// readNote reads and validates a note's draft from the body, before any query:
// a bad request costs no connection.
func readNote(r *http.Request) (notes.Draft, error) {
	var draft notes.Draft
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&draft)
	if err == nil {
		if _, err = decoder.Token(); err == io.EOF {
			err = nil
		} else if err == nil {
			err = errors.New("more than one value")
		}
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return draft, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return draft, &Error{Status: http.StatusRequestTimeout, Code: "slow_body", Detail: "The body took too long to arrive"}
	case err != nil:
		return draft, &Error{
			Status: http.StatusBadRequest, Code: "bad_json",
			Detail: `The body must be one JSON object with "title" and "body"`,
		}
	}
	var fields []FieldError
	for _, problem := range draft.Problems() {
		fields = append(fields, FieldError(problem))
	}
	if fields != nil {
		return draft, &Error{Status: http.StatusUnprocessableEntity, Code: "invalid_note", Detail: "The note is not valid", Fields: fields}
	}
	return draft, nil
}

// queryInt reads an optional number from the query string.
func queryInt(r *http.Request, name string, missing, least, most int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return missing, nil
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil || value < least || value > most {
		return 0, &Error{
			Status: http.StatusBadRequest, Code: "bad_query", Detail: "A query parameter is not valid",
			Fields: []FieldError{{name, fmt.Sprintf("must be a number from %d to %d", least, most)}},
		}
	}
	return value, nil
}
