package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"jambalaya/internal/cli"
)

// inputRows feed what comes from outside to those who read it.
var inputRows = []row{
	{21, "mutated files and messages", "0 crashes, at most 256 MiB", mutations},
	{22, "size bombs, 1 TiB declared", "refused in 10 ms and 1 MiB", bombs},
	{27, "1,000 names that lead elsewhere", "0 escapes", names},
}

// inputs makes a complete run, with its data beside it, for a child to read.
func (l *lab) inputs(ctx context.Context) (task, error) {
	dir, err := l.place("input")
	if err != nil {
		return task{}, err
	}
	args := l.arguments(filepath.Join(dir, "run"), set("trainer.steps=20", "data.cache_dir="+filepath.Join(dir, "cache"), "data.tokenizer=bpe-270")...)
	if _, err := l.complete(ctx, cli.CodeOK, args...); err != nil {
		return task{}, err
	}
	return task{Dir: dir, Seed: l.opt.Seed}, nil
}

// verdict turns an answer into a result: nothing may have gone wrong.
func (a answer) verdict(figure string, met bool) (result, error) {
	if len(a.Bad) > 0 {
		return result{figure: figure}, fmt.Errorf("%d went wrong; the first: %s", len(a.Bad), a.Bad[0])
	}
	return result{figure, met}, nil
}

func mutations(ctx context.Context, l *lab) (result, error) {
	t, err := l.inputs(ctx)
	if err != nil {
		return result{}, err
	}
	t.Count = l.reps(3_000, 100_000)
	a, memory, err := l.child(ctx, "mutations", t)
	if err != nil {
		return result{}, err
	}
	return a.verdict(fmt.Sprintf("%d inputs to %s, 0 crashes, peak %d MiB", a.Done, a.Figure, memory>>20), memory <= 256<<20)
}

func bombs(ctx context.Context, l *lab) (result, error) {
	t, err := l.inputs(ctx)
	if err != nil {
		return result{}, err
	}
	a, _, err := l.child(ctx, "bombs", t)
	if err != nil {
		return result{}, err
	}
	return a.verdict(fmt.Sprintf("%d bombs refused; %s", a.Done, a.Figure), true)
}

func names(ctx context.Context, l *lab) (result, error) {
	t, err := l.inputs(ctx)
	if err != nil {
		return result{}, err
	}
	t.Count = 1000
	a, _, err := l.child(ctx, "names", t)
	if err != nil {
		return result{}, err
	}
	return a.verdict(fmt.Sprintf("%d names, %s", a.Done, a.Figure), true)
}

// oneDir is the only directory in a directory.
func oneDir(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	found := ""
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("%s has several directories", dir)
		}
		found = filepath.Join(dir, e.Name())
	}
	if found == "" {
		return "", fmt.Errorf("%s has no directory", dir)
	}
	return found, nil
}
