package chaos

// saveCall is a system call that changes the checkpoints of a traced process.
type saveCall struct {
	n    int    // counts from 0
	path string // of the file or directory it is about
}

// act is what to do with a call.
type act int

const (
	pass act = iota
	killBefore
	failWithEIO
)
