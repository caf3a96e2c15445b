package data

import (
	"errors"

	"jambalaya/data/shard"
	"jambalaya/data/source"
	"jambalaya/data/tokenizer"
)

var (
	// ErrConfig marks a configuration that describes no data we can read.
	ErrConfig = errors.New("data: invalid configuration")
	// ErrTooShort marks a sequence length that a source has too few tokens for.
	ErrTooShort = errors.New("data: the sequence is longer than the corpus")
	// ErrNoHeldOut marks a corpus without held-out text.
	ErrNoHeldOut = errors.New("data: the corpus has no held-out text")
	// ErrClosed is returned by a loader after Close.
	ErrClosed = errors.New("data: the loader is closed")
)

// ConfigError is one fault of a configuration: the key and what is wrong with its
// value. Validate joins one for each fault; a caller that nests the configuration
// puts its own path before Key.
type ConfigError struct {
	Key   string
	Fault string
}

func (e *ConfigError) Error() string { return e.Key + ": " + e.Fault }

// Unwrap makes every fault match ErrConfig.
func (e *ConfigError) Unwrap() error { return ErrConfig }

// IsConfig reports whether an error is the fault of what was asked for, rather than
// of files or of the machine.
func IsConfig(err error) bool {
	for _, kind := range []error{
		ErrConfig, ErrTooShort, ErrNoHeldOut, source.ErrInput, tokenizer.ErrUnknown, tokenizer.ErrTraining, shard.ErrExists, shard.ErrEmpty,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
