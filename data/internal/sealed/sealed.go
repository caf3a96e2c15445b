// Package sealed writes and reads small JSON files that carry the SHA-256 of their
// own content, so that any damage to them is found before they are believed:
//
//	{
//	"sha256": "…",
//	"content": {…}
//	}
//
// The sum covers the content's bytes exactly as they stand in the file. Reading is
// strict: unknown keys, further data and content whose sum differs are errors.
// Nothing panics on any input.
package sealed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrDamaged marks a file whose content is not what was written.
var ErrDamaged = errors.New("the file is damaged")

type envelope struct {
	SHA256  string          `json:"sha256"`
	Content json.RawMessage `json:"content"`
}

// Marshal returns the file for a value, and the SHA-256 (hex) of its content.
func Marshal(v any) (file []byte, sum string, err error) {
	content, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return nil, "", err
	}
	sum = hash(content)
	return fmt.Appendf(nil, "{\n\"sha256\": %q,\n\"content\": %s\n}\n", sum, content), sum, nil
}

// Unmarshal checks a file and decodes its content into v. It returns the SHA-256
// of the content.
func Unmarshal(file []byte, v any) (sum string, err error) {
	var e envelope
	if err := strict(file, &e); err != nil {
		return "", fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	sum = hash(e.Content)
	if sum != e.SHA256 {
		return "", fmt.Errorf("%w: its content does not have the SHA-256 it states", ErrDamaged)
	}
	return sum, strict(e.Content, v)
}

// strict decodes one JSON value with known keys only.
func strict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more data follows its end")
	}
	return nil
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
