package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"

	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
	"jambalaya/model"
)

// Names in a folder.
const (
	ConfigName  = "config.json"
	WeightsName = "model.safetensors"
	IndexName   = "model.safetensors.index.json"
)

const (
	maxConfig = 1 << 20
	maxIndex  = 64 << 20
)

// safeName is what a file of weights may be called.
var safeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.safetensors$`)

// Model is an open folder. It is a model.HubSource.
type Model struct {
	Config   model.Config
	Metadata map[string]string // of the weights' (first) file
	files    []*safetensors.File
	where    map[string]*safetensors.File // of each tensor
}

var _ model.HubSource = (*Model)(nil)

// wanted is what to do about a folder that holds no model.
const wanted = "name a folder with " + ConfigName + " and " + WeightsName + ", as a hub has them or ckpt export writes them"

// Open reads config.json and opens the files of weights, which stay mapped until Close.
func Open(dir string) (*Model, error) {
	root, err := vfs.Dir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, wanted)
	}
	defer root.Close()
	text, err := vfs.ReadFile(root, ConfigName, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w; %s", dir, err, wanted)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	m := &Model{where: map[string]*safetensors.File{}}
	if m.Config, err = model.ReadHFConfig(text); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	names, index, err := weightFiles(root)
	for i := 0; err == nil && i < len(names); i++ {
		err = m.open(dir, names[i], index)
	}
	if err == nil {
		err = m.complete(index)
	}
	if err == nil {
		err = m.Config.CheckHub(m)
	}
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	m.Metadata = m.files[0].Metadata
	return m, nil
}

// weightFiles names the files of weights, and the file of each tensor where there is an
// index.
func weightFiles(root vfs.FS) (names []string, index map[string]string, err error) {
	_, err = root.Stat(IndexName)
	if errors.Is(err, fs.ErrNotExist) {
		return []string{WeightsName}, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	text, err := vfs.ReadFile(root, IndexName, maxIndex)
	if err != nil {
		return nil, nil, err
	}
	var content struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(text, &content); err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", model.ErrHub, IndexName, err)
	}
	seen := map[string]bool{}
	for _, name := range content.WeightMap {
		if !safeName.MatchString(name) {
			return nil, nil, fmt.Errorf("%w: %s: %q is not the name of a file of weights", model.ErrHub, IndexName, name)
		}
		seen[name] = true
	}
	if len(seen) == 0 {
		return nil, nil, fmt.Errorf("%w: %s names no files", model.ErrHub, IndexName)
	}
	return slices.Sorted(maps.Keys(seen)), content.WeightMap, nil
}

// open opens a file of weights and takes note of its tensors.
func (m *Model) open(dir, name string, index map[string]string) error {
	f, err := safetensors.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	m.files = append(m.files, f)
	for _, t := range f.Tensors {
		if index != nil && index[t.Name] != name {
			return fmt.Errorf("%w: %s holds %s, which %s has in %q", model.ErrHub, name, t.Name, IndexName, index[t.Name])
		}
		m.where[t.Name] = f
	}
	return nil
}

// complete makes sure that every tensor of the index was found.
func (m *Model) complete(index map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(index)) {
		if m.where[name] == nil {
			return fmt.Errorf("%w: %s lacks %s, which %s has there", model.ErrHub, index[name], name, IndexName)
		}
	}
	return nil
}

// Shapes implements model.HubSource.
func (m *Model) Shapes() map[string][]int {
	shapes := make(map[string][]int, len(m.where))
	for _, f := range m.files {
		for _, t := range f.Tensors {
			shape := make([]int, len(t.Shape))
			for i, n := range t.Shape {
				shape[i] = int(n)
			}
			shapes[t.Name] = shape
		}
	}
	return shapes
}

// Tensor implements model.HubSource.
func (m *Model) Tensor(name string) ([]float32, error) {
	f := m.where[name]
	if f == nil {
		return nil, fmt.Errorf("%w: %q", safetensors.ErrNoTensor, name)
	}
	t, err := f.Tensor(name)
	if err != nil {
		return nil, err
	}
	return t.Float32s()
}

// Values reads the weights, one slice for each of Config.Params().
func (m *Model) Values() ([][]float32, error) {
	params := m.Config.Params()
	values := make([][]float32, len(params))
	for i, p := range params {
		values[i] = make([]float32, p.Size())
	}
	return values, m.Config.LoadHub(values, m)
}

// Close unmaps the files.
func (m *Model) Close() error {
	var err error
	for _, f := range m.files {
		err = errors.Join(err, f.Close())
	}
	m.files = nil
	return err
}
