package model

import "errors"

var (
	// ErrConfig marks a configuration that describes no model we can build.
	ErrConfig = errors.New("model: invalid configuration")

	// ErrHub marks a hub config.json or a set of hub weights that does not fit
	// a model of ours, or a model that the hub's format cannot express.
	ErrHub = errors.New("model: not a model we can exchange with the hub")
)

// ConfigError is one fault of a configuration: the key and what is wrong with
// its value. Validate joins one for each fault; a caller that nests the
// configuration puts its own path before Key.
type ConfigError struct {
	Key   string
	Fault string
}

func (e *ConfigError) Error() string { return e.Key + ": " + e.Fault }

// Unwrap makes every fault match ErrConfig.
func (e *ConfigError) Unwrap() error { return ErrConfig }
