// Package deploy holds what starts a run where machines are handed out by a scheduler:
//
//	kubernetes/jobset.yaml   a JobSet, with what it needs beside it
//	slurm/train.sbatch       a batch job
//	slurm/try.sh             tries that on a real Slurm of one machine
//
// The package itself is empty but for its tests, which check the files against the parts
// of the schedulers' schemas that they use, and against the program.
package deploy
