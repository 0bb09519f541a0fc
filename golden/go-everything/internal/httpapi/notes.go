package httpapi

import (
	"fmt"
	"math"
	"net/http"

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
	query, err := readQuery(r, "limit", "after")
	if err != nil {
		return err
	}
	limit, err := queryInt(query, "limit", notes.DefaultLimit, 1, notes.MaxLimit)
	if err != nil {
		return err
	}
	after, err := queryInt(query, "after", 0, 0, math.MaxInt64)
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

// noteID reads the id from the path. What is no number names no note.
func noteID(r *http.Request) (int64, error) {
	id, err := parseInt(r.PathValue("id"))
	if err != nil {
		return 0, notFound
	}
	_, err = readQuery(r)
	return id, err
}

// readNote reads and validates a note's draft from the body, before any query:
// a bad request costs no connection.
func readNote(r *http.Request) (draft notes.Draft, err error) {
	if _, err := readQuery(r); err != nil {
		return draft, err
	}
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
