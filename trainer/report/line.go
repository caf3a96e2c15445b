package report

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Line is a line of metrics.jsonl.
type Line struct {
	Step   int64 `json:"step"`
	Tokens int64 `json:"tokens"` // read by all steps so far
	*Train
	*Validation
	Timing
}

// Train is what a training step measured, on the weights before its update.
type Train struct {
	Loss     Number `json:"loss"`    // what is minimised: CELoss and the weighted AuxLoss
	CELoss   Number `json:"ce_loss"` // nats a token
	AuxLoss  Number `json:"aux_loss"`
	GradNorm Number `json:"grad_norm"` // before clipping
	LR       Number `json:"lr"`
	// Skipped says why the update was not applied.
	Skipped string `json:"skipped,omitempty"`
	// ExpertLoad is the share of the assignments by MoE layer and expert.
	ExpertLoad [][]Number `json:"expert_load,omitempty"`
	// ExpertImbalance is, by MoE layer, the largest share over the mean one: 1 at balance,
	// the number of experts where one gets all.
	ExpertImbalance []Number `json:"expert_imbalance,omitempty"`
	// ExpertDrops are, by MoE layer, the assignments dropped beyond the capacity of their
	// expert; absent without one.
	ExpertDrops []Number `json:"expert_drops,omitempty"`
}

// Validation is what the held-out text measured, on the weights after the step.
type Validation struct {
	ValLoss     Number `json:"val_loss"` // nats a token
	BitsPerByte Number `json:"bits_per_byte"`
}

// Timing is what differs between two runs of the same bits.
type Timing struct {
	TokensPerS Number `json:"tokens_per_s"`
	Time       Number `json:"time"` // seconds since 1970, UTC
}

// Now is the timing of a line that is written now.
func Now(tokensPerS float64) Timing {
	return Timing{TokensPerS: Number(tokensPerS), Time: Number(float64(time.Now().UnixMilli()) / 1000)}
}

// Number is a float64 that JSON carries exactly, null where it is not finite.
type Number float64

// MarshalJSON implements json.Marshaler.
func (n Number) MarshalJSON() ([]byte, error) {
	if x := float64(n); math.IsNaN(x) || math.IsInf(x, 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n)) // the shortest text that reads back as the same bits
}

// UnmarshalJSON implements json.Unmarshaler: null is NaN.
func (n *Number) UnmarshalJSON(text []byte) error {
	*n = Number(math.NaN())
	if string(text) == "null" {
		return nil
	}
	return json.Unmarshal(text, (*float64)(n))
}

// Deterministic returns a line without tokens_per_s and time, in a form that is
// the same for equal values: what a resumed run has to repeat.
func Deterministic(line []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	delete(fields, "tokens_per_s")
	delete(fields, "time")
	return json.Marshal(fields)
}
