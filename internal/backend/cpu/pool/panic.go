package pool

import (
	"fmt"
	"runtime/debug"
)

// TaskPanic is what Run panics with when a task panicked: the value, and the stack of the task.
type TaskPanic struct {
	Value any
	Stack []byte
}

func newTaskPanic(value any) *TaskPanic { return &TaskPanic{Value: value, Stack: debug.Stack()} }

// Error gives the value and the stack of the task, which the stack of Run does not show.
func (e *TaskPanic) Error() string {
	return fmt.Sprintf("pool: task panicked: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap is the value, if it is an error.
func (e *TaskPanic) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
