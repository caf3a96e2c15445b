package op

import (
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"jambalaya/internal/engine"
)

// attributes is the contract with the backends: the attributes of each kernel.
// engine.Lower adds "accumulate" to products.
var attributes = map[string]string{
	"add":                 "",
	"add_bias":            "",
	"adamw":               "beta1 beta2 eps weight_decay clip narrow",
	"attention":           "batch length heads kv_heads head_dim",
	"attention_cached":    "batch length heads kv_heads head_dim capacity",
	"attention_grad":      "batch length heads kv_heads head_dim",
	"column_sum":          "",
	"combine":             "",
	"combine_grad":        "",
	"conv1d":              "batch length kernel bias state",
	"conv1d_grad":         "batch length kernel bias state has_dstate",
	"cross_entropy":       "",
	"cross_entropy_grad":  "",
	"dispatch":            "",
	"dispatch_grad":       "",
	"embedding":           "",
	"embedding_grad":      "pad",
	"expert_capacity":     "batch length experts capacity",
	"expert_sort":         "experts",
	"grouped_matmul":      "",
	"grouped_matmul_dw":   "",
	"grouped_matmul_dx":   "",
	"matmul":              "ta tb",
	"narrow":              "",
	"rms_norm":            "eps residual",
	"rms_norm_grad":       "residual",
	"rope":                "batch length heads kv_heads head_dim theta inverse offset",
	"router_aux":          "scope batch length layers",
	"router_aux_grad":     "scope batch length layers",
	"router_topk":         "k renormalise",
	"router_topk_grad":    "k renormalise has_dprobs has_dweights",
	"selective_scan":      "batch length chunk state",
	"selective_scan_grad": "batch length chunk state has_dstate",
	"split_norm":          "eps rank states norm",
	"split_norm_grad":     "eps rank states norm",
	"sum_squares":         "",
	"swiglu":              "",
	"swiglu_grad":         "",
}

// TestEveryOperatorHasACase: what the sources of this package define is what the
// cases run, and what has a gradient is differentiated.
func TestEveryOperatorHasACase(t *testing.T) {
	t.Parallel()
	ran, differentiable, checked := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, c := range cases {
		d := differentiate(t, c, small)
		prog, err := engine.Lower(d.Graph(), d.outputs()...)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		for _, in := range prog.Instrs {
			ran[in.Kernel] = true
		}
		for _, n := range d.Graph().AllNodes() {
			if o, ok := n.Op().(*Op); ok && o.spec.Kind == engine.Compute && o.spec.Kernel != partGradKernel {
				ran[o.spec.Kernel] = true
				if o.grad != nil && !o.spec.Backward {
					differentiable[o.spec.Kernel] = true
					checked[o.spec.Kernel] = checked[o.spec.Kernel] || len(d.outs) > 0
				}
			}
		}
	}
	for _, name := range definedKernels(t) {
		if !ran[name] {
			t.Errorf("operator %s has no case", name)
		}
		if differentiable[name] && !checked[name] {
			t.Errorf("operator %s has no case that checks its gradient", name)
		}
		if _, ok := attributes[name]; !ok {
			t.Errorf("operator %s is not in the table of attributes", name)
		}
	}
	for name := range attributes {
		if !ran[name] {
			t.Errorf("the table of attributes names %s, which does not exist", name)
		}
	}
}

// definedKernels reads the names out of the sources: def{kernel: "name"}.
func definedKernels(t *testing.T) []string {
	t.Helper()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			kv, ok := n.(*ast.KeyValueExpr)
			if !ok {
				return true
			}
			key, isName := kv.Key.(*ast.Ident)
			value, isText := kv.Value.(*ast.BasicLit)
			if isName && isText && key.Name == "kernel" {
				name, _ := strconv.Unquote(value.Value)
				names = append(names, name)
			}
			return true
		})
	}
	if len(names) < 30 {
		t.Fatalf("found only %d operators in the sources", len(names))
	}
	return names
}

// TestSpecs: what operators tell the engine is complete and consistent.
func TestSpecs(t *testing.T) {
	t.Parallel()
	for _, c := range cases {
		d := differentiate(t, c, small)
		for _, n := range d.Graph().AllNodes() {
			o, ok := n.Op().(*Op)
			if !ok || o.spec.Kind != engine.Compute || o.spec.Kernel == partGradKernel {
				continue
			}
			spec := o.Lower()
			var names []string
			for _, a := range spec.Attrs {
				names = append(names, a.Name)
				if math.IsNaN(a.Value) || math.IsInf(a.Value, 0) {
					t.Errorf("%s: %s has %s = %g", c.name, spec.Kernel, a.Name, a.Value)
				}
			}
			want := strings.Fields(attributes[spec.Kernel])
			slices.Sort(names)
			slices.Sort(want)
			if !slices.Equal(names, want) {
				t.Errorf("%s: %s has attributes %v, want %v", c.name, spec.Kernel, names, want)
			}
			checkAliases(t, c.name, d, o, childrenOf(d.Graph(), n))
		}
	}
}

// checkAliases: an output can take only the memory of an input of its own size.
func checkAliases(t *testing.T, name string, d *differentiated, o *Op, in nodes) {
	t.Helper()
	for _, out := range o.spec.Outs {
		aliases := slices.Clone(out.InPlace)
		if out.Updates > 0 {
			aliases = append(aliases, out.Updates-1)
		}
		for _, i := range aliases {
			if i >= len(in) || in[i].Shape().TotalSize() != out.Size() {
				t.Errorf("%s: %v has an output %v that cannot share memory with input %d", name, o, out.Shape, i)
			}
		}
	}
	if len(o.diff) != len(in) {
		t.Errorf("%s: %v says of %d inputs whether they are differentiable, and has %d", name, o, len(o.diff), len(in))
	}
}
