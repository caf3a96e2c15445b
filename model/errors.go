package model

import "errors"

// ErrHub marks a hub config.json or a set of hub weights that does not fit a
// model of ours, or a model that the hub's format cannot express.
var ErrHub = errors.New("not a model that the hub and this program share")
