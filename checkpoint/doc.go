// Package checkpoint saves the state of a run so that no crash, at any moment,
// costs more than the steps since the last checkpoint, and never lets a damaged
// one pass for good.
//
//	fsys, err := vfs.Dir("runs/nano")
//	m, err := checkpoint.Open(fsys, "checkpoints", checkpoint.Options{Config: cfg, Run: id})
//	c, skipped, err := m.Latest(ctx)       // to go on from; ErrNone: from the start
//	err = c.Load("embed", weights)         // or LoadSlice
//	err = m.Save(&checkpoint.Snapshot{...}) // copies, then writes in the background
//	err = m.Wait()                         // before the process ends
//
// Find and List read without a Manager, and change nothing.
//
// # Format
//
//	checkpoints/
//	  step-00001200/
//	    manifest.json                    size and SHA-256 of each file, and of itself
//	    index.json                       tensor -> shape, type, [(file, offset, length, slice)]
//	    state.json                       step, seed, cursor, hashes, the trainer's counters
//	    model-r0000-of-0001.safetensors
//	    optim-r0000-of-0001.safetensors
//	    expert-L07-E012.safetensors      one an expert, with its optimiser state
//	  .tmp-step-00001300-g17/            being written by generation 17
//	  quarantine/                        what did not verify
//
// A tensor may be saved in parts, boxes of its shape, in any files, and any box of
// it can be loaded: how many ranks saved does not bind how many load.
//
// # Invariants
//
// A checkpoint appears under its name whole or not at all: the files are synced,
// then the manifest and the directory, then one rename publishes it. There is no
// pointer to the latest: readers scan, take the newest (by generation, then step)
// and verify every byte of it before any is used. A step is published once, and
// not by a generation older than one that has published. A checkpoint is deleted
// only after the newest was read back and found good; what does not verify is
// moved to quarantine/, never deleted.
//
// # Failures
//
// A save that fails (a full disk, say) leaves the checkpoint before it, and
// training can go on; Config.MaxFailures of them in a row end it with ErrGivenUp.
// ErrCorrupt names the file that is missing, cut or changed. Damage found by
// Latest is reported as Skipped, and an older checkpoint is used. A directory
// that cannot be written is an error of Open.
package checkpoint
