package hub

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"

	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
	"jambalaya/model"
)

// Options say how Write stores a model.
type Options struct {
	DType     safetensors.DType // F32 or BF16
	FileBytes int64             // most bytes of tensors in a file, but for one larger tensor; 0: 5 GB
	Metadata  map[string]string // of every file of weights
	Extra     map[string][]byte // further files, by name
}

const defaultFileBytes = 5_000_000_000

// dtypeNames are what config.json calls the types.
var dtypeNames = map[safetensors.DType]string{safetensors.F32: "float32", safetensors.BF16: "bfloat16"}

// Load fills dst with elements [part.Offset, part.Offset+part.Length) of parameter
// number part.Param of the configuration's Params.
type Load func(part model.Range, dst []float32) error

// Write makes the folder dir, which does not exist, in fsys. It returns the names of
// the files and their bytes in all.
func Write(fsys vfs.FS, dir string, cfg model.Config, opt Options, load Load) (files []string, size int64, err error) {
	if dtypeNames[opt.DType] == "" {
		return nil, 0, fmt.Errorf("hub: weights are written as float32 or bfloat16, not as %q", opt.DType)
	}
	config, err := model.WriteHFConfig(cfg, dtypeNames[opt.DType])
	if err != nil {
		return nil, 0, err
	}
	w := &writer{fsys: fsys, dir: path.Join(path.Dir(dir), ".tmp-"+path.Base(dir)), opt: opt, load: load}
	if err := vfs.RemoveAll(fsys, w.dir); err != nil {
		return nil, 0, err
	}
	if err := fsys.Mkdir(w.dir); err != nil {
		return nil, 0, err
	}
	err = w.all(cfg, append(config, '\n'))
	if err == nil {
		err = fsys.SyncDir(w.dir)
	}
	if err == nil {
		err = fsys.Rename(w.dir, dir)
	}
	if err != nil {
		_ = vfs.RemoveAll(fsys, w.dir) // the first error says more
		return nil, 0, err
	}
	return w.files, w.size, fsys.SyncDir(path.Dir(dir))
}

// writer writes a folder under a temporary name.
type writer struct {
	fsys  vfs.FS
	dir   string
	opt   Options
	load  Load
	files []string
	size  int64

	values []float32 // of the tensor being written
	narrow []byte
}

func (w *writer) all(cfg model.Config, config []byte) error {
	if err := w.file(ConfigName, config); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(w.opt.Extra)) {
		if err := w.file(name, w.opt.Extra[name]); err != nil {
			return err
		}
	}
	groups := w.groups(cfg.HubTensors())
	weightMap := map[string]string{}
	total := int64(0)
	for i, group := range groups {
		name := WeightsName
		if len(groups) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(groups))
		}
		for _, t := range group {
			weightMap[t.Name] = name
			total += w.bytes(t)
		}
		if err := w.weights(name, group); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(groups) == 1 {
		return nil
	}
	index, err := json.MarshalIndent(map[string]any{"metadata": map[string]int64{"total_size": total}, "weight_map": weightMap}, "", "  ")
	if err != nil {
		return err
	}
	return w.file(IndexName, append(index, '\n'))
}

// groups cuts the tensors into files.
func (w *writer) groups(tensors []model.HubTensor) [][]model.HubTensor {
	most := w.opt.FileBytes
	if most == 0 {
		most = defaultFileBytes
	}
	var all [][]model.HubTensor
	room := int64(0)
	for _, t := range tensors {
		n := w.bytes(t)
		if len(all) == 0 || n > room {
			all, room = append(all, nil), most
		}
		last := len(all) - 1
		all[last] = append(all[last], t)
		room -= n
	}
	return all
}

func (w *writer) bytes(t model.HubTensor) int64 { return int64(t.Size()) * w.opt.DType.Size() }

func (w *writer) file(name string, data []byte) error {
	w.files, w.size = append(w.files, name), w.size+int64(len(data))
	return vfs.WriteFile(w.fsys, path.Join(w.dir, name), data)
}

// weights writes one file of tensors, one after the other.
func (w *writer) weights(name string, tensors []model.HubTensor) error {
	specs := make([]safetensors.Spec, len(tensors))
	for i, t := range tensors {
		shape := make([]int64, len(t.Shape))
		for d, n := range t.Shape {
			shape[d] = int64(n)
		}
		specs[i] = safetensors.Spec{Name: t.Name, DType: w.opt.DType, Shape: shape}
	}
	f, err := w.fsys.Create(path.Join(w.dir, name))
	if err != nil {
		return err
	}
	n, err := safetensors.Stream(f, w.opt.Metadata, specs, func(i int) ([]byte, error) { return w.data(tensors[i]) })
	if err != nil {
		f.Close()
		return err
	}
	w.files, w.size = append(w.files, name), w.size+n
	return vfs.SyncClose(f)
}

// data returns the bytes of a tensor, valid until the next call.
func (w *writer) data(t model.HubTensor) ([]byte, error) {
	if cap(w.values) < t.Size() {
		w.values = make([]float32, t.Size())
	}
	values := w.values[:t.Size()]
	at := 0
	for _, part := range t.Parts {
		if err := w.load(part, values[at:at+part.Length]); err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		at += part.Length
	}
	if w.opt.DType == safetensors.F32 {
		return safetensors.Bytes(values), nil
	}
	w.narrow = safetensors.AppendBF16(w.narrow[:0], values)
	return w.narrow, nil
}
