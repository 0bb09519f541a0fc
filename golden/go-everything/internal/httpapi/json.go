package httpapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
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

// readJSON reads the body, one JSON object, into v, in the strict way of what will be Go's
// encoding/json/v2: names as they are written and given once, text that is Unicode. What is
// wrong is said with the name of the field.
func readJSON(r *http.Request, v any) error {
	kind, parameters, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "application/json" && !(strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")) ||
		!strings.EqualFold(cmp.Or(parameters["charset"], "utf-8"), "utf-8") || r.Header.Get("Content-Encoding") != "" {
		return newError(http.StatusUnsupportedMediaType, "not_json", "The Content-Type must be application/json, not encoded")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	switch text := bytes.TrimSpace(body); {
	case len(text) == 0:
		return newError(http.StatusBadRequest, "bad_json", "The body is empty")
	case text[0] != '{':
		return newError(http.StatusBadRequest, "bad_json", "The body must be a JSON object")
	}
	err = jsonv2.Unmarshal(body, v, jsonv2.RejectUnknownMembers(true))
	misfit, _ := errors.AsType[*jsonv2.SemanticError](err)
	broken, _ := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case errors.Is(err, jsonv2.ErrUnknownName):
		return badField(misfit.JSONPointer, "is not known")
	case misfit != nil && misfit.Err == nil:
		return badField(misfit.JSONPointer, "is of the wrong type: "+misfit.JSONKind.String())
	case misfit != nil:
		return badField(misfit.JSONPointer, "is malformed") // a date, for one
	case errors.Is(err, jsontext.ErrDuplicateName):
		return badField(broken.JSONPointer, "is given twice")
	case err != nil:
		return newError(http.StatusBadRequest, "bad_json", "The body is not valid JSON, in UTF-8")
	}
	return nil
}

func badField(at jsontext.Pointer, why string) error {
	return invalid("bad_json", FieldError{strings.Join(slices.Collect(at.Tokens()), "."), why})
}

// readQuery reads the query string, which may have each of the names once.
func readQuery(r *http.Request, names ...string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, newError(http.StatusBadRequest, "bad_query", "The query string is malformed")
	}
	for name, values := range query {
		if !slices.Contains(names, name) || len(values) > 1 {
			return nil, invalid("bad_query", FieldError{name, "is not known, or given twice"})
		}
	}
	return query, nil
}

// queryInt returns an optional number of the query string.
func queryInt(query url.Values, name string, missing, least, most int64) (int64, error) {
	if !query.Has(name) {
		return missing, nil
	}
	value, err := parseInt(query.Get(name))
	if err != nil || value < least || value > most {
		return 0, invalid("bad_query", FieldError{name, fmt.Sprintf("must be a number from %d to %d", least, most)})
	}
	return value, nil
}

func invalid(code string, field FieldError) error {
	return &Error{http.StatusBadRequest, code, "A field of the request is not valid", []FieldError{field}}
}

// parseInt reads a number in the one way to write it: +1 and 01 are none.
func parseInt(text string) (int64, error) {
	value, err := strconv.ParseInt(text, 10, 64)
	if err == nil && strconv.FormatInt(value, 10) != text {
		err = strconv.ErrSyntax
	}
	return value, err
}
