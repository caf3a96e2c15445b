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
