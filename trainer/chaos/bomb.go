package chaos

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"jambalaya/checkpoint"
	"jambalaya/configs"
	"jambalaya/data/shard"
	"jambalaya/data/tokenizer"
	"jambalaya/internal/config"
	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
	"jambalaya/parallel"
	"jambalaya/trainer"
	"jambalaya/trainer/report"
)

const tebi = int64(1) << 40

// Limits of what refusing a bomb may cost.
const (
	bombTime   = 10 * time.Millisecond
	bombMemory = 1 << 20
)

// bomb is an input that declares far more than there is, or should be.
type bomb struct {
	name string
	read func() error
}

// readBombs wants every bomb refused, at once and without memory for what it declares.
func readBombs(t task) (answer, error) {
	all, err := allBombs(t.Dir)
	if err != nil {
		return answer{}, err
	}
	var a answer
	slowest, largest := time.Duration(0), uint64(0)
	for _, b := range all {
		took, memory, err := cost(b.read)
		switch {
		case err == nil:
			a.Bad = append(a.Bad, b.name+" is accepted")
		case took > bombTime || memory > bombMemory:
			a.Bad = append(a.Bad, fmt.Sprintf("%s is refused after %v and %d KiB", b.name, took, memory>>10))
		case strings.Contains(err.Error(), "\n"):
			a.Bad = append(a.Bad, b.name+" is refused in several lines")
		}
		slowest, largest = max(slowest, took), max(largest, memory)
		a.Done++
	}
	a.Figure = fmt.Sprintf("slowest %.2f ms, largest %d KiB", slowest.Seconds()*1e3, largest>>10)
	return a, nil
}

// cost is what reading once takes: the least time of a few, as others use the machine
// too, and the most memory allocated.
func cost(read func() error) (took time.Duration, memory uint64, err error) {
	took = time.Hour
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		err = read()
		took = min(took, time.Since(start))
		runtime.ReadMemStats(&after)
		memory = max(memory, after.TotalAlloc-before.TotalAlloc)
		if err == nil {
			return took, memory, nil
		}
	}
	return took, memory, err
}

func allBombs(dir string) ([]bomb, error) {
	place := filepath.Join(dir, "bombs")
	if err := os.MkdirAll(place, 0o777); err != nil {
		return nil, err
	}
	checkpoints, err := checkpointBombs(filepath.Join(dir, "run", checkpointDir), place)
	if err != nil {
		return nil, err
	}
	shards, err := shardBombs(filepath.Join(dir, "cache"), place)
	if err != nil {
		return nil, err
	}
	texts, err := textBombs(place)
	if err != nil {
		return nil, err
	}
	return slices.Concat(checkpoints, shards, texts, tensorBombs(), messageBombs()), nil
}

// sparse makes a file that says it has a TiB and takes no space.
func sparse(name string) error {
	if err := os.WriteFile(name, nil, 0o666); err != nil {
		return err
	}
	return os.Truncate(name, tebi)
}

// checkpointBombs are checkpoints whose manifest or index declare a TiB.
func checkpointBombs(from, place string) ([]bomb, error) {
	files, err := contents(filepath.Join(from, "step-00000020"))
	if err != nil {
		return nil, err
	}
	var bombs []bomb
	add := func(name string, changed map[string][]byte, huge ...string) error {
		dir := filepath.Join(place, strings.ReplaceAll(name, " ", "-"))
		step := filepath.Join(dir, "c", "step-00000020")
		if err := os.MkdirAll(step, 0o777); err != nil {
			return err
		}
		all := maps.Clone(files)
		maps.Copy(all, changed)
		for n, text := range all {
			if err := os.WriteFile(filepath.Join(step, n), text, 0o666); err != nil {
				return err
			}
		}
		for _, n := range huge {
			if err := sparse(filepath.Join(step, n)); err != nil {
				return err
			}
		}
		root, err := vfs.Dir(dir)
		if err != nil {
			return err
		}
		bombs = append(bombs, bomb{name, func() error {
			_, err := checkpoint.Verify(context.Background(), root, "c", "step-00000020")
			return err
		}})
		return nil
	}
	states := func(name string, size int64) map[string][]byte {
		text, restateErr := restate(files["manifest.json"], name, size, nil)
		if restateErr != nil {
			err = restateErr
		}
		return map[string][]byte{"manifest.json": text}
	}
	return bombs, cmpFirst(err,
		add("checkpoint manifest of a TiB", nil, "manifest.json"),
		add("checkpoint file stated to have a TiB", states("model-r0000-of-0001.safetensors", tebi)),
		add("checkpoint index of a TiB", states("index.json", tebi), "index.json"),
		add("checkpoint state of a TiB", states("state.json", tebi), "state.json"),
		add("checkpoint files of a TiB, not stated", nil, "optim-r0000-of-0001.safetensors"),
	)
}

func cmpFirst(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// tensorBombs are safetensors files with small data and large words.
func tensorBombs() []bomb {
	file := func(length uint64, header string) []byte {
		return append(binary.LittleEndian.AppendUint64(nil, length), header...)
	}
	whole := func(header string) []byte { return file(uint64(len(header)), header) }
	var bombs []bomb
	for name, data := range map[string][]byte{
		"safetensors header of a TiB":     file(uint64(tebi), "{}"),
		"safetensors header of 16 EiB":    file(1<<64-1, "{}"),
		"safetensors tensor of a TiB":     whole(`{"a":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}`),
		"safetensors shape that overflow": whole(`{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}`),
		"safetensors deep nesting":        whole(strings.Repeat(`{"a":`, 1000) + strings.Repeat("}", 1000)),
	} {
		bombs = append(bombs, bomb{name, func() error {
			_, err := safetensors.Decode(data)
			return err
		}})
	}
	return bombs
}

// messageBombs are headers of messages with sizes that no message has.
func messageBombs() []bomb {
	header := make([]byte, parallel.HeaderBytes)
	parallel.Message{Header: parallel.Header{Kind: parallel.KindAllReduce}}.Encode(header)
	binary.LittleEndian.PutUint32(header[48:], 1<<32-1)
	binary.LittleEndian.PutUint32(header[60:], crc32.Checksum(header[:60], crc32.MakeTable(crc32.Castagnoli)))
	return []bomb{{"message of 4 GiB", func() error {
		_, _, _, err := parallel.DecodeHeader(header)
		return err
	}}}
}

// textBombs are texts that are too long, or grow when they are read.
func textBombs(place string) ([]bomb, error) {
	yaml, metrics, tok := filepath.Join(place, "huge.yaml"), filepath.Join(place, "huge.jsonl"), filepath.Join(place, "huge.json")
	run := filepath.Join(place, "run")
	err := cmpFirst(sparse(yaml), sparse(metrics), sparse(tok), os.MkdirAll(run, 0o777), sparse(filepath.Join(run, "config.yaml")))
	laughs := []byte("a: &a [x, x, x, x, x, x, x, x, x]\n")
	for c := 'b'; c <= 'z'; c++ {
		laughs = fmt.Appendf(laughs, "%c: &%c [%s]\n", c, c, strings.Repeat(fmt.Sprintf("*%c, ", c-1), 9))
	}
	return []bomb{
		{"configuration of a TiB", func() error {
			file, err := configs.Load(yaml)
			if err == nil {
				_, _, err = trainer.LoadConfig(file, nil)
			}
			return err
		}},
		{"recorded configuration of a TiB", func() error {
			_, err := trainer.LoadRun(run)
			return err
		}},
		{"configuration of aliases of aliases", func() error {
			_, _, err := trainer.LoadConfig(config.File{Name: "laughs.yaml", Text: laughs}, nil)
			return oneLine(err)
		}},
		{"metrics of a TiB", func() error {
			_, err := report.ReadMetrics(metrics)
			return err
		}},
		{"tokenizer of a TiB", func() error {
			_, err := tokenizer.Load(tok)
			return err
		}},
	}, err
}

// oneLine takes the first of the faults of a configuration, which has a line for each.
func oneLine(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s", firstLine(err.Error()))
}

// shardBombs are data sets that declare more than their files hold.
func shardBombs(cache, place string) ([]bomb, error) {
	plain, err := oneDir(cache)
	if err != nil {
		return nil, err
	}
	packed := filepath.Join(place, "packed")
	if err := writePacked(place, "packed"); err != nil {
		return nil, err
	}
	footer := func(data []byte) []byte {
		bad := bytes.Clone(data)
		binary.LittleEndian.PutUint32(bad[len(bad)-10:], 1<<31-1)
		return bad
	}
	var bombs []bomb
	add := func(name, from string, change func([]byte) []byte, huge string) error {
		files, err := contents(from)
		if err != nil {
			return err
		}
		dir := filepath.Join(place, strings.ReplaceAll(name, " ", "-"))
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
		const first = "train-00000.arrow"
		bad := change(files[first])
		manifest, err := sumIn(unseal(files[shard.ManifestName]), first, int64(len(bad)), bad)
		if err != nil {
			return err
		}
		files[first], files[shard.ManifestName] = bad, seal(manifest)
		for n, text := range files {
			if err := os.WriteFile(filepath.Join(dir, n), text, 0o666); err != nil {
				return err
			}
		}
		if huge != "" {
			if err := sparse(filepath.Join(dir, huge)); err != nil {
				return err
			}
		}
		bombs = append(bombs, bomb{name, func() error {
			s, err := shard.Open(dir)
			if err == nil {
				s.Close()
			}
			return err
		}})
		return nil
	}
	return bombs, cmpFirst(
		add("Arrow footer of 2 GiB", plain, footer, ""),
		add("Arrow buffer that expands to a TiB", packed, expanding, ""),
		add("data manifest of a TiB", plain, bytes.Clone, shard.ManifestName),
		add("shard of a TiB, not stated", plain, bytes.Clone, "train-00000.arrow"),
	)
}

// packedTokens is how many tokens the compressed data set has in its one document.
const packedTokens = 4096

func writePacked(place, name string) error {
	root, err := vfs.Dir(place)
	if err != nil {
		return err
	}
	defer root.Close()
	w, err := shard.Create(root, name, shard.Options{Tokenizer: tokenizer.Bytes{}, Compression: shard.Zstd})
	if err != nil {
		return err
	}
	tokens := make([]uint32, packedTokens)
	tokens[0] = tokenizer.Bytes{}.EndOfText()
	if err := w.Add(shard.Train, tokens, nil, packedTokens); err != nil {
		return err
	}
	_, err = w.Commit()
	return err
}

// expanding makes every compressed buffer declare a TiB: its length stands before it.
func expanding(data []byte) []byte {
	bad := bytes.Clone(data)
	declared := binary.LittleEndian.AppendUint64(nil, 2*packedTokens)
	huge := binary.LittleEndian.AppendUint64(nil, uint64(tebi))
	return bytes.ReplaceAll(bad, declared, huge)
}
