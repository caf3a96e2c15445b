package chaos

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"jambalaya/checkpoint"
)

// Files that carry a checksum of themselves are refused at once when they were changed
// by accident. Who changes them on purpose makes the checksum fit; these functions do.

const (
	manifestTail = "\"\n}\n"
	sealHead     = "{\n\"sha256\": \""
	sealMiddle   = "\",\n\"content\": "
	sealTail     = "\n}\n"
)

// sealManifest makes the checksum of a checkpoint's manifest fit.
func sealManifest(text []byte) []byte {
	body := bytes.TrimSuffix(text, []byte(manifestTail))
	if len(body) < 2*sha256.Size || len(body) == len(text) {
		return text
	}
	body = body[:len(body)-2*sha256.Size]
	sum := sha256.Sum256(append(bytes.Clone(body), manifestTail...))
	return fmt.Appendf(nil, "%s%x%s", body, sum, manifestTail)
}

// restate changes what a checkpoint's manifest says of a file.
func restate(manifest []byte, name string, size int64, content []byte) ([]byte, error) {
	var m checkpoint.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, err
	}
	for i := range m.Files {
		if m.Files[i].Name == name {
			sum := sha256.Sum256(content)
			m.Files[i].Size, m.Files[i].SHA256 = size, hex.EncodeToString(sum[:])
			text, err := json.MarshalIndent(m, "", "  ")
			return sealManifest(append(text, '\n')), err
		}
	}
	return nil, fmt.Errorf("the manifest does not list %s", name)
}

// seal writes content as package sealed does.
func seal(content []byte) []byte {
	return fmt.Appendf(nil, "%s%x%s%s%s", sealHead, sha256.Sum256(content), sealMiddle, content, sealTail)
}

// unseal returns the content of a sealed file.
func unseal(file []byte) []byte {
	_, content, _ := bytes.Cut(file, []byte(sealMiddle))
	return bytes.TrimSuffix(content, []byte(sealTail))
}

// sumIn changes what the manifest of a data set says of a file.
func sumIn(manifest []byte, name string, size int64, content []byte) ([]byte, error) {
	var fields any
	if err := json.Unmarshal(manifest, &fields); err != nil {
		return nil, err
	}
	if !setSum(fields, name, size, content) {
		return nil, fmt.Errorf("the manifest does not list %s", name)
	}
	return json.MarshalIndent(fields, "", "  ")
}

// setSum finds the object with the name, however deep.
func setSum(v any, name string, size int64, content []byte) bool {
	found := false
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			found = setSum(e, name, size, content) || found
		}
	case map[string]any:
		if v["name"] == name && v["size"] != nil {
			sum := sha256.Sum256(content)
			v["size"], v["sha256"] = size, hex.EncodeToString(sum[:])
			return true
		}
		for _, e := range v {
			found = setSum(e, name, size, content) || found
		}
	}
	return found
}
