//go:build !unix

package data

import "context"

// lockDir does nothing where there is no flock: two processes that make the same
// shards at once do the work twice, and the first one's stay.
func lockDir(context.Context, string) (unlock func() error, err error) {
	return func() error { return nil }, nil
}
