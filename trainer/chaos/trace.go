package chaos

import "strings"

// saveCall is a system call that changes the checkpoints of a traced process.
type saveCall struct {
	n    int    // counts from 0
	name string // of the call
	path string // of the file or directory it is about
}

// act is what to do with a call.
type act int

const (
	pass act = iota
	killBefore
	failWithEIO
)

// ofCheckpoints says whether a path is one of a run's checkpoints.
func ofCheckpoints(path string) bool { return strings.Contains(path+"/", "/"+checkpointDir+"/") }
