//go:build !unix

package chaos

func makePipe(string) error { return errSkip{"needs a named pipe"} }
