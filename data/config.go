package data

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"jambalaya/data/source"
)

// Config says which text a model learns from and how it is cut.
type Config struct {
	// Sources are mixed by weight.
	Sources []Source `yaml:"sources"`
	// SequenceLength is the number of tokens of a row that the model predicts.
	SequenceLength int `yaml:"sequence_length"`
	// Tokenizer is bytes, r50k_base, p50k_base, cl100k_base, o200k_base, bpe-N (a
	// vocabulary of N tokens trained on the sources), or a file tokenizer.json.
	Tokenizer string `yaml:"tokenizer"`
	// CacheDir holds the shards made of sources that are text.
	CacheDir string `yaml:"cache_dir"`
	// Prefetch is the number of batches made ready in advance.
	Prefetch int `yaml:"prefetch"`
}

// Source is one source of text.
type Source struct {
	// Path is go-source (the Go distribution's own text), a folder of shards, a
	// file, or a directory with files of text.
	Path string `yaml:"path"`
	// Weight is the source's part of the samples, relative to the others; 0 is 1.
	Weight float64 `yaml:"weight"`
	// Ext is the extension of the files to read below a directory.
	Ext string `yaml:"ext"`
	// TextField is the field or column of .jsonl and .parquet files with the text;
	// empty is "text".
	TextField string `yaml:"text_field"`
	// MaskField is the one with a list of 0 or 1 for each byte of the text: whether
	// the model is to learn it. Empty is none.
	MaskField string `yaml:"mask_field"`
	// HeldOut are directories and files, relative to Path, kept for validation;
	// empty lets the source choose.
	HeldOut []string `yaml:"held_out"`
}

// Default is the Go distribution's source, as bytes.
func Default() Config {
	return Config{
		Sources:        []Source{{Path: source.GoSource, Weight: 1}},
		SequenceLength: 512,
		Tokenizer:      "bytes",
		CacheDir:       "runs/data",
		Prefetch:       4,
	}
}

const (
	maxSequence = 1 << 24
	maxSources  = 1 << 10
	maxPrefetch = 1 << 10
)

// Validate returns every fault that can be seen without reading files, joined, each
// a *ConfigError; nil if there is none.
func (c Config) Validate() error {
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, &ConfigError{key, fmt.Sprintf(format, args...)})
	}
	if n := len(c.Sources); n < 1 || n > maxSources {
		fault("sources", "has %d entries; between 1 and %d are needed, such as {path: %s}", n, maxSources, source.GoSource)
	}
	for i, s := range c.Sources {
		key := fmt.Sprintf("sources[%d].", i)
		if s.Path == "" {
			fault(key+"path", "is empty; name a directory, a file, a folder of shards or %s", source.GoSource)
		}
		if s.Weight < 0 || math.IsNaN(s.Weight) || math.IsInf(s.Weight, 0) {
			fault(key+"weight", "%v is not a finite number of at least 0", s.Weight)
		}
		if s.Ext != "" && !strings.HasPrefix(s.Ext, ".") {
			fault(key+"ext", "%q does not begin with a dot", s.Ext)
		}
	}
	if c.SequenceLength < 1 || c.SequenceLength > maxSequence {
		fault("sequence_length", "%d is not between 1 and %d", c.SequenceLength, maxSequence)
	}
	if err := CheckTokenizer(c.Tokenizer); err != nil {
		fault("tokenizer", "%v", err)
	}
	if c.CacheDir == "" {
		fault("cache_dir", "is empty; name a directory for shards, such as runs/data")
	}
	if c.Prefetch < 1 || c.Prefetch > maxPrefetch {
		fault("prefetch", "%d is not between 1 and %d", c.Prefetch, maxPrefetch)
	}
	return errors.Join(faults...)
}
