package trainer

import (
	"encoding/json"
	"fmt"
	"os"
)

// audit records which samples a rank read, in a file that only grows: a step that was
// taken again, after a fault, has a line of each generation that took it.
type audit struct {
	file       *os.File
	generation uint64
}

// Audited is a line of an audit: Rows samples from First on.
type Audited struct {
	Generation uint64 `json:"generation"`
	Step       int64  `json:"step"`
	First      int64  `json:"first"`
	Rows       int    `json:"rows"`
}

// AuditFile is the name of a rank's audit in the directory of a run.
func AuditFile(rank int) string { return fmt.Sprintf("audit-r%04d.jsonl", rank) }

func (r *run) openAudit() error {
	if !r.cfg.Trainer.Audit {
		return nil
	}
	f, err := os.OpenFile(r.dir.file(AuditFile(r.team.rank)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	r.audit = &audit{file: f}
	if w := r.opt.World; w != nil {
		r.audit.generation = w.Transport.Identity().Generation
	} else {
		r.audit.generation = uint64(r.store.Generation())
	}
	return nil
}

// read records a batch that was read for a step.
func (a *audit) read(step, first int64, rows int) error {
	if a == nil {
		return nil
	}
	text, err := json.Marshal(Audited{a.generation, step, first, rows})
	if err != nil {
		return err
	}
	if _, err := a.file.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

func (a *audit) close() {
	if a != nil {
		a.file.Close()
	}
}
