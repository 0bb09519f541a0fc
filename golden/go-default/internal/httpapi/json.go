package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
)

// writeJSON answers with v. Values of this package always encode, and a client
// that has gone needs no answer, so there is no error.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// answerWith answers with v, unless err says that there is none.
func answerWith(w http.ResponseWriter, v any, err error) error {
	if err == nil {
		writeJSON(w, http.StatusOK, v)
	}
	return err
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
	if errors.As(err, new(*http.MaxBytesError)) || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
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
