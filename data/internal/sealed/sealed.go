package sealed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ErrDamaged marks a file whose content is not what was written.
var ErrDamaged = errors.New("the file is damaged")

// The bytes around the content.
const (
	head   = "{\n\"sha256\": \""
	middle = "\",\n\"content\": "
	tail   = "\n}\n"
)

// Marshal returns the file for a value, and the SHA-256 (hex) of its content.
func Marshal(v any) (file []byte, sum string, err error) {
	content, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return nil, "", err
	}
	sum = hash(content)
	return slices.Concat([]byte(head), []byte(sum), []byte(middle), content, []byte(tail)), sum, nil
}

// Unmarshal checks a file and decodes its content into v. It returns the SHA-256
// of the content.
func Unmarshal(file []byte, v any) (sum string, err error) {
	rest, isHead := bytes.CutPrefix(file, []byte(head))
	stated, content, isMiddle := bytes.Cut(rest, []byte(middle))
	content, isTail := bytes.CutSuffix(content, []byte(tail))
	if !isHead || !isMiddle || !isTail {
		return "", fmt.Errorf("%w: it does not begin and end as it was written", ErrDamaged)
	}
	sum = hash(content)
	if sum != string(stated) {
		return "", fmt.Errorf("%w: its content does not have the SHA-256 it states", ErrDamaged)
	}
	return sum, strict(content, v)
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
