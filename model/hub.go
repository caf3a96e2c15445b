package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// HubTensor is a tensor of a checkpoint on the hub and where its elements are
// among our parameters: in Parts, one after the other.
type HubTensor struct {
	Name  string
	Shape []int
	Parts []Range
}

// Range is a run of elements of parameter number Param of Config.Params.
type Range struct{ Param, Offset, Length int }

// Size is the number of elements.
func (t HubTensor) Size() int { return Param{Shape: t.Shape}.Size() }

// hubNames are the parts of hub names in which the families differ.
type hubNames struct {
	embedTokens, layers, finalNorm string
	mixer                          string // of a Mamba layer
	inputNorm, ffNorm              string
	mlp, moe, router               string
	expertGate, expertUp           string
	expertDown                     string
}

var hubNamesOf = map[ModelType]hubNames{
	Jamba: {
		embedTokens: "model.embed_tokens", layers: "model.layers", finalNorm: "model.final_layernorm",
		mixer: "mamba", inputNorm: "input_layernorm", ffNorm: "pre_ff_layernorm",
		mlp: "feed_forward", moe: "feed_forward", router: "router",
		expertGate: "gate_proj", expertUp: "up_proj", expertDown: "down_proj",
	},
	Mixtral: {
		embedTokens: "model.embed_tokens", layers: "model.layers", finalNorm: "model.norm",
		inputNorm: "input_layernorm", ffNorm: "post_attention_layernorm",
		moe: "block_sparse_moe", router: "gate",
		expertGate: "w1", expertUp: "w3", expertDown: "w2",
	},
	Llama: {
		embedTokens: "model.embed_tokens", layers: "model.layers", finalNorm: "model.norm",
		inputNorm: "input_layernorm", ffNorm: "post_attention_layernorm",
		mlp: "mlp",
	},
	Mamba: {
		embedTokens: "backbone.embeddings", layers: "backbone.layers", finalNorm: "backbone.norm_f",
		mixer: "mixer", inputNorm: "norm",
	},
}

// HubTensors lists the tensors that a valid configuration's model has on the
// hub, in the order of our parameters. They cover every element once.
func (c Config) HubTensors() []HubTensor {
	m := hubMap{config: c, names: hubNamesOf[c.ModelType]}
	for i, p := range c.Params() {
		m.index, m.offset = i, 0
		m.add(p)
	}
	return m.tensors
}

// hubMap builds the list of hub tensors, a parameter at a time.
type hubMap struct {
	config  Config
	names   hubNames
	tensors []HubTensor
	index   int // of the current parameter
	offset  int // of its first element that no tensor has yet
}

// add maps all elements of a parameter.
func (m *hubMap) add(p Param) {
	if p.Layer < 0 {
		switch p.Name {
		case EmbedTokens:
			m.tensor(m.names.embedTokens+".weight", p.Shape...)
		case FinalLayernorm:
			m.tensor(m.names.finalNorm+".weight", p.Shape...)
		default:
			m.tensor(p.Name, p.Shape...)
		}
		return
	}
	name := strings.TrimPrefix(p.Name, LayerPrefix(p.Layer))
	layer := fmt.Sprintf("%s.%d.", m.names.layers, p.Layer)
	part, rest, _ := strings.Cut(name, ".")
	switch {
	case name == InputLayernorm:
		m.tensor(layer+m.names.inputNorm+".weight", p.Shape...)
	case name == PreFFLayernorm:
		m.tensor(layer+m.names.ffNorm+".weight", p.Shape...)
	case part == "mamba":
		m.mamba(layer+m.names.mixer+".", rest, p)
	case part == "self_attn":
		m.attention(layer, name, p)
	default:
		m.feedForward(layer, name, p)
	}
}

func (m *hubMap) mamba(prefix, name string, p Param) {
	rows := p.Shape[0]
	switch half, suffix, _ := strings.Cut(name, "."); half {
	case "in_proj_x":
		m.tensor(prefix+"in_proj."+suffix, p.Shape...)
	case "in_proj_z": // the second half of the rows
		m.extend(prefix+"in_proj."+suffix, rows, p.Size())
	case "conv1d":
		if suffix == "weight" {
			m.tensor(prefix+name, rows, 1, p.Shape[1])
			return
		}
		m.tensor(prefix+name, rows)
	default:
		m.tensor(prefix+name, p.Shape...)
	}
}

func (m *hubMap) attention(layer, name string, p Param) {
	if name != SelfAttnQKVProj {
		m.tensor(layer+name, p.Shape...)
		return
	}
	query, keyValue := m.config.NumAttentionHeads*m.config.HeadDim(), m.config.KeyValueHeads()*m.config.HeadDim()
	m.tensor(layer+"self_attn.q_proj.weight", query, p.Shape[1])
	m.tensor(layer+"self_attn.k_proj.weight", keyValue, p.Shape[1])
	m.tensor(layer+"self_attn.v_proj.weight", keyValue, p.Shape[1])
}

func (m *hubMap) feedForward(layer, name string, p Param) {
	hidden, inner := m.config.HiddenSize, m.config.IntermediateSize
	switch name {
	case MLPGateUpProj:
		m.tensor(layer+m.names.mlp+".gate_proj.weight", inner, hidden)
		m.tensor(layer+m.names.mlp+".up_proj.weight", inner, hidden)
	case MLPDownProj:
		m.tensor(layer+m.names.mlp+".down_proj.weight", hidden, inner)
	case MoERouter:
		m.tensor(layer+m.names.moe+"."+m.names.router+".weight", p.Shape...)
	default:
		for e := range p.Shape[0] {
			expert := fmt.Sprintf("%s%s.experts.%d.", layer, m.names.moe, e)
			if name == ExpertsDownProj {
				m.tensor(expert+m.names.expertDown+".weight", hidden, inner)
				continue
			}
			m.tensor(expert+m.names.expertGate+".weight", inner, hidden)
			m.tensor(expert+m.names.expertUp+".weight", inner, hidden)
		}
	}
}

// tensor maps the next elements of the current parameter to a tensor.
func (m *hubMap) tensor(name string, shape ...int) {
	t := HubTensor{Name: name, Shape: slices.Clone(shape)}
	t.Parts = []Range{m.next(t.Size())}
	m.tensors = append(m.tensors, t)
}

// extend appends rows, the next elements of the current parameter, to a tensor
// that is already there.
func (m *hubMap) extend(name string, rows, elements int) {
	i := len(m.tensors) - 1
	for m.tensors[i].Name != name {
		i--
	}
	m.tensors[i].Shape[0] += rows
	m.tensors[i].Parts = append(m.tensors[i].Parts, m.next(elements))
}

func (m *hubMap) next(elements int) Range {
	r := Range{m.index, m.offset, elements}
	m.offset += elements
	return r
}

// CheckHub compares the names and shapes of a checkpoint's tensors with what c needs:
// missing tensors, tensors without a place and shapes that differ are all reported, as
// ErrHub.
func (c Config) CheckHub(source HubSource) error { return checkHub(c.HubTensors(), source) }

// LoadHub fills values, one slice for each of c.Params(), from a checkpoint that
// holds the tensors called names. Missing tensors, tensors without a place
// and shapes that differ are all reported, as ErrHub, before anything is read in.
func (c Config) LoadHub(values [][]float32, source HubSource) error {
	tensors := c.HubTensors()
	if err := checkHub(tensors, source); err != nil {
		return err
	}
	for _, t := range tensors {
		data, err := source.Tensor(t.Name)
		if err != nil {
			return fmt.Errorf("load %s: %w", t.Name, err)
		}
		if len(data) != t.Size() {
			return fmt.Errorf("%w: %s has %d elements, want %d", ErrHub, t.Name, len(data), t.Size())
		}
		for _, part := range t.Parts {
			copy(values[part.Param][part.Offset:part.Offset+part.Length], data)
			data = data[part.Length:]
		}
	}
	return nil
}

// HubSource gives access to the tensors of a checkpoint.
type HubSource interface {
	// Shapes maps the name of each tensor to its shape.
	Shapes() map[string][]int
	// Tensor reads a tensor as float32. The slice is not kept.
	Tensor(name string) ([]float32, error)
}

// computedBuffer ends the names of tables that old Llama checkpoints hold beside
// the weights, and that follow from the configuration.
const computedBuffer = ".rotary_emb.inv_freq"

func checkHub(tensors []HubTensor, source HubSource) error {
	shapes := source.Shapes()
	var faults []error
	known := make(map[string]bool, len(tensors))
	for _, t := range tensors {
		known[t.Name] = true
		if shape, ok := shapes[t.Name]; !ok {
			faults = append(faults, fmt.Errorf("%w: %s is missing", ErrHub, t.Name))
		} else if !slices.Equal(shape, t.Shape) {
			faults = append(faults, fmt.Errorf("%w: %s has shape %v, want %v", ErrHub, t.Name, shape, t.Shape))
		}
	}
	for _, name := range sortedKeys(shapes) {
		if !known[name] && !strings.HasSuffix(name, computedBuffer) {
			faults = append(faults, fmt.Errorf("%w: %s has no place in this configuration", ErrHub, name))
		}
	}
	return errors.Join(faults...)
}

// ExportHub passes each hub tensor of values (one slice for each of c.Params())
// to put. The data is valid during that call only.
func (c Config) ExportHub(values [][]float32, put func(name string, shape []int, data []float32) error) error {
	var joined []float32
	for _, t := range c.HubTensors() {
		first := t.Parts[0]
		data := values[first.Param][first.Offset : first.Offset+first.Length]
		if len(t.Parts) > 1 {
			joined = joined[:0]
			for _, part := range t.Parts {
				joined = append(joined, values[part.Param][part.Offset:part.Offset+part.Length]...)
			}
			data = joined
		}
		if err := put(t.Name, t.Shape, data); err != nil {
			return fmt.Errorf("export %s: %w", t.Name, err)
		}
	}
	return nil
}
