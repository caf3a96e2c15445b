package data

import (
	"context"
	"fmt"
	"testing"

	"jambalaya/data/shard"
	"jambalaya/data/source"
	"jambalaya/data/tokenizer"
	"jambalaya/internal/vfs"
)

// benchCorpus shards the Go distribution's source as bytes.
func benchCorpus(b *testing.B, tok tokenizer.Tokenizer) (dir string, m *shard.Manifest, src *source.Source) {
	b.Helper()
	src, err := source.OpenGo()
	if err != nil {
		b.Skip(err)
	}
	dir = b.TempDir()
	fsys, err := vfs.Dir(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer fsys.Close()
	m, err = Shard(context.Background(), fsys, "set", src, ShardOptions{Tokenizer: tok})
	if err != nil {
		b.Fatal(err)
	}
	return dir + "/set", m, src
}

// BenchmarkShard reads, tokenizes, hashes and writes; -cpu 1 tells the speed of a
// core. MB/s are of the text that reaches the shards.
func BenchmarkShard(b *testing.B) {
	trainer := tokenizer.NewTrainer()
	for _, text := range corpusFiles(50, 1) {
		trainer.Add([]byte(text))
	}
	bpe, err := trainer.Train(300)
	if err != nil {
		b.Fatal(err)
	}
	for _, tok := range []tokenizer.Tokenizer{tokenizer.Bytes{}, bpe} {
		b.Run(tok.ID(), func(b *testing.B) {
			for b.Loop() {
				_, m, _ := benchCorpus(b, tok)
				b.SetBytes(m.Split(shard.Train).Bytes + m.Split(shard.HeldOut).Bytes)
			}
		})
	}
}

// BenchmarkRead copies every row of a verified data set out of its view. MB/s are of
// the mapped file.
func BenchmarkRead(b *testing.B) {
	dir, _, _ := benchCorpus(b, tokenizer.Bytes{})
	set, err := shard.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer set.Close()
	split := set.Split(shard.Train)
	b.SetBytes(2 * split.Tokens())
	buffer := make([]uint16, 1<<16)
	for b.Loop() {
		for i := range split.Rows() {
			for row := split.Row(i).Narrow; len(row) > 0; {
				row = row[copy(buffer, row):]
			}
		}
	}
}

// BenchmarkOpen opens a data set that this process has verified before.
func BenchmarkOpen(b *testing.B) {
	dir, m, _ := benchCorpus(b, tokenizer.Bytes{})
	b.SetBytes(m.Split(shard.Train).Files[0].Size)
	for b.Loop() {
		set, err := shard.Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		set.Close()
	}
}

// BenchmarkSample makes the batches of a training step. MB/s are of tokens times the
// 12 bytes that a batch has for each.
func BenchmarkSample(b *testing.B) {
	dir, _, _ := benchCorpus(b, tokenizer.Bytes{})
	set, err := shard.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer set.Close()
	for _, length := range []int{256, 4096} {
		x, err := NewIndex([]IndexSource{{Name: "go", Hash: set.Hash(), Split: set.Split(shard.Train), Weight: 1}}, 1, length)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(length), func(b *testing.B) {
			batch := newBatch(length)
			b.SetBytes(int64(12 * length))
			b.ReportAllocs()
			k := int64(0)
			for b.Loop() {
				x.Sample(k, batch.Inputs, batch.Targets, batch.Docs)
				k++
			}
		})
	}
}
