package chaos

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"jambalaya/checkpoint"
	"jambalaya/data/shard"
	"jambalaya/data/tokenizer"
	"jambalaya/internal/config"
	"jambalaya/internal/prng"
	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
	"jambalaya/model"
	"jambalaya/parallel"
	"jambalaya/parallel/cluster"
	"jambalaya/trainer"
	"jambalaya/trainer/report"
)

// reader is one of the programs' readers of bytes that come from outside, with what it
// reads when nothing is wrong.
type reader struct {
	name string
	good []byte
	// read must return: an error or not, but within memory. The bytes are the
	// attacker's, checksums of theirs included.
	read func(bad []byte) error
}

// readMutations gives changed inputs to all readers in turn. That one panics or takes
// too much memory is seen from outside.
func readMutations(t task) (answer, error) {
	readers, err := allReaders(t.Dir)
	if err != nil {
		return answer{}, err
	}
	var names []string
	for _, r := range readers {
		if err := r.read(r.good); err != nil {
			return answer{}, fmt.Errorf("%s: the input is good, yet %w", r.name, err)
		}
		names = append(names, r.name)
	}
	chance := prng.New(t.Seed, "chaos/mutations")
	for i := range t.Count {
		r := readers[i%len(readers)]
		_ = r.read(mutate(r.good, chance)) // accepted or refused: some changes are harmless
	}
	return answer{Done: t.Count, Figure: fmt.Sprintf("%d readers (%s)", len(readers), strings.Join(names, ", "))}, nil
}

func allReaders(dir string) ([]reader, error) {
	readers, err := checkpointReaders(filepath.Join(dir, "run", checkpointDir, "step-00000020"))
	if err != nil {
		return nil, err
	}
	shards, err := shardReaders(filepath.Join(dir, "cache"), filepath.Join(dir, "mutated"))
	if err != nil {
		return nil, err
	}
	texts, err := textReaders(dir)
	if err != nil {
		return nil, err
	}
	return slices.Concat(readers, shards, texts, []reader{headerReader(), controlReader()}), nil
}

// checkpointReaders read the files of a checkpoint; the manifest is made to fit.
func checkpointReaders(dir string) ([]reader, error) {
	files, err := contents(dir)
	if err != nil {
		return nil, err
	}
	verify := func(changed string, bad []byte) error {
		mem := vfs.NewMem()
		all := maps.Clone(files)
		all[changed] = bad
		if changed == "manifest.json" {
			all[changed] = sealManifest(bad)
		} else if all["manifest.json"], err = restate(files["manifest.json"], changed, int64(len(bad)), bad); err != nil {
			return err
		}
		if err := vfs.MkdirAll(mem, "c/step-00000020"); err != nil {
			return err
		}
		for name, text := range all {
			if err := vfs.WriteFile(mem, "c/step-00000020/"+name, text); err != nil {
				return err
			}
		}
		_, err := checkpoint.Verify(context.Background(), mem, "c", "step-00000020")
		return err
	}
	var readers []reader
	for _, name := range []string{"manifest.json", "index.json", "state.json", "expert-L01-E000.safetensors"} {
		readers = append(readers, reader{name, files[name], func(bad []byte) error { return verify(name, bad) }})
	}
	readers = append(readers, reader{"safetensors", files["expert-L01-E000.safetensors"], func(bad []byte) error {
		_, err := safetensors.Decode(bad)
		return err
	}})
	return readers, nil
}

// shardReaders read a data set: its manifest, its tokenizer, and a shard whose checksum
// is made to fit.
func shardReaders(cache, copied string) ([]reader, error) {
	dir, err := oneDir(cache)
	if err != nil {
		return nil, err
	}
	files, err := contents(dir)
	if err != nil {
		return nil, err
	}
	first := ""
	for name := range files {
		if strings.HasSuffix(name, ".arrow") && (first == "" || name < first) {
			first = name
		}
	}
	if first == "" {
		return nil, fmt.Errorf("%s has no shard", dir)
	}
	write := func(manifest []byte, name string, text []byte) error {
		if err := os.MkdirAll(copied, 0o777); err != nil {
			return err
		}
		for n, t := range files {
			if n == name {
				t = text
			}
			if err := os.WriteFile(filepath.Join(copied, n), t, 0o666); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(copied, shard.ManifestName), manifest, 0o666)
	}
	content := unseal(files[shard.ManifestName])
	return []reader{
		{"data manifest", content, func(bad []byte) error {
			_, _, err := shard.ParseManifest(seal(bad))
			return err
		}},
		{"Arrow shard", files[first], func(bad []byte) error {
			manifest, err := sumIn(content, first, int64(len(bad)), bad)
			if err != nil {
				return err
			}
			if err := write(seal(manifest), first, bad); err != nil {
				return err
			}
			s, err := shard.Open(copied)
			if err != nil {
				return err
			}
			return s.Close()
		}},
		{"tokenizer", unseal(files["tokenizer.json"]), func(bad []byte) error {
			_, err := tokenizer.Parse(seal(bad))
			return err
		}},
	}, nil
}

// textReaders read the configuration, the metrics, and the configuration of a model of
// the hub.
func textReaders(dir string) ([]reader, error) {
	run, err := contents(filepath.Join(dir, "run"))
	if err != nil {
		return nil, err
	}
	hub, err := model.WriteHFConfig(model.Default(), "float32")
	if err != nil {
		return nil, err
	}
	metrics := filepath.Join(dir, "mutated.jsonl")
	return []reader{
		{"configuration", run["config.yaml"], func(bad []byte) error {
			_, _, err := trainer.LoadConfig(config.File{Name: "config.yaml", Text: bad}, nil)
			return err
		}},
		{"metrics", run["metrics.jsonl"], func(bad []byte) error {
			if err := os.WriteFile(metrics, bad, 0o666); err != nil {
				return err
			}
			_, err := report.ReadMetrics(metrics)
			return err
		}},
		{"hub config.json", hub, func(bad []byte) error {
			_, err := model.ReadHFConfig(bad)
			return err
		}},
	}, nil
}

// headerReader reads the header of a message between ranks.
func headerReader() reader {
	good := make([]byte, parallel.HeaderBytes)
	parallel.Message{Header: parallel.Header{Run: 1, Generation: 2, Step: 3, Kind: parallel.KindAllReduce, Total: 64}}.Encode(good)
	return reader{"message header", good, func(bad []byte) error {
		_, _, _, err := parallel.DecodeHeader(bad)
		return err
	}}
}

// contents reads the files of a directory.
func contents(dir string) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// controlReader reads what workers and coordinator say to each other.
func controlReader() reader {
	m := cluster.Message{Kind: cluster.KindJoin, Term: 3, Hello: &cluster.Hello{
		Run: "0123", Incarnation: "0-1", Worker: "0", Address: "127.0.0.1:1", Facts: []cluster.Fact{{Field: "trainer.seed", Value: "1"}},
		Checkpoints: []cluster.Checkpoint{{Step: 20, Hash: "ab"}}}}
	good, err := m.Encode()
	return reader{"control message", good, func(bad []byte) error {
		if err != nil {
			return err
		}
		_, err := cluster.Decode(bad)
		return err
	}}
}
